// SPDX-License-Identifier: Apache-2.0
// A tap by Java's own smart card classes: java -D... Tap.java READER COMMAND... prints the ATR, then each answer, in hex.

import java.util.HexFormat;
import javax.smartcardio.Card;
import javax.smartcardio.CardTerminal;
import javax.smartcardio.CommandAPDU;
import javax.smartcardio.TerminalFactory;

public class Tap {
    public static void main(String[] words) throws Exception {
        HexFormat hex = HexFormat.of();
        for (CardTerminal reader : TerminalFactory.getDefault().terminals().list()) {
            if (!reader.getName().equals(words[0])) {
                continue;
            }
            Card card = reader.connect("*");
            System.out.println(card.getProtocol() + " " + hex.formatHex(card.getATR().getBytes()));
            for (int i = 1; i < words.length; i++) {
                CommandAPDU command = new CommandAPDU(hex.parseHex(words[i]));
                System.out.println(hex.formatHex(card.getBasicChannel().transmit(command).getBytes()));
            }
            card.disconnect(true);
        }
    }
}
