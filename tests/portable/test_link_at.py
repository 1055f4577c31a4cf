# SPDX-License-Identifier: Apache-2.0
"""A modem's AT commands and a SIM's logical channels, without either: chipcash_links.at, .uicc. Portable."""

from chipcash_links.at import MAX_APDU, Modem
from chipcash_links.uicc import Uicc

AID = b"\xf0CHIPCASH\x01"


class Line:
    """Remembers what was sent."""

    def __init__(self):
        self.sent = b""

    def send(self, data):
        """Some bytes."""
        self.sent += data


class App:
    """Is selected by its AID, answers other commands with the AID-less truth: how many it has had."""

    made = []

    def __init__(self):
        self.selected = False
        self.count = 0
        self.seen = []
        App.made.append(self)

    def process(self, apdu):
        """SELECT, or the count."""
        self.seen.append(apdu)
        if apdu[1] == 0xA4:
            self.selected = apdu[5 : 5 + apdu[4]] == AID
            return b"\x90\x00" if self.selected else b"\x6a\x82"
        self.count += 1
        return bytes((self.count, apdu[0])) + b"\x90\x00"

    def reset(self):
        """Forget."""
        self.selected = False


class Phone:
    """A modem with its SIM, echo off."""

    def __init__(self):
        App.made = []
        self.line = Line()
        self.modem = Modem(Uicc(App), self.line)
        assert self.say("ATE0") == "ATE0\r\r\nOK\r\n"

    def say(self, command):
        """What the modem answers to a line."""
        self.line.sent = b""
        self.modem.take(command.encode() + b"\r")
        return self.line.sent.decode()


OK = "\r\nOK\r\n"
ERROR = "\r\nERROR\r\n"
SELECT_A = "F04348495043415348" + "01"


def test_a_modem_answers():
    phone = Phone()
    for command in ("AT", "at", "ATZ", "AT+CSIM=?", "AT+CCHO=?", "AT+CGLA=?", "AT+CCHC=?"):
        assert phone.say(command) == OK
    assert phone.say("ATE1") == OK and phone.say("AT") == "AT\r" + OK
    for command in ("ATD112", "HELLO", "AT+CSIM", "AT+COPS?", "\xe4"):
        phone.say("ATE0")
        assert phone.say(command) == ERROR, command


def test_lines_in_any_pieces():
    phone = Phone()
    phone.line.sent = b""
    for byte in b"\r\nAT\r\n\r\nAT+CSIM=?\r\n":
        phone.modem.take(bytes((byte,)))
    assert phone.line.sent.decode() == OK + OK


def test_csim_is_the_basic_channel():
    phone = Phone()
    assert phone.say('AT+CSIM=8,"00CA0100"') == '\r\n+CSIM: 8,"01009000"\r\n' + OK
    assert phone.say("AT+CSIM=8,00CA0100") == '\r\n+CSIM: 8,"02009000"\r\n' + OK
    assert phone.say('AT+CSIM=8,"01CA0100"') == '\r\n+CSIM: 4,"6881"\r\n' + OK
    for wrong in ('10,"00CA0100"', '8,"00CA010"', '8,"00CA010G"', '6,"00CA01"', 'x,"00CA0100"', ""):
        assert phone.say("AT+CSIM=" + wrong) == ERROR, wrong
    assert len(App.made) == 1 and App.made[0].count == 2


def test_channels_are_apart():
    phone = Phone()
    assert phone.say('AT+CCHO="%s"' % SELECT_A) == "\r\n+CCHO: 1\r\n" + OK
    assert phone.say("AT+CCHO=" + SELECT_A) == "\r\n+CCHO: 2\r\n" + OK
    assert phone.say('AT+CGLA=1,8,"00CA0100"') == '\r\n+CGLA: 8,"01009000"\r\n' + OK
    assert phone.say('AT+CGLA=1,8,"80500000"') == '\r\n+CGLA: 8,"02809000"\r\n' + OK
    assert phone.say('AT+CGLA=2,8,"00CA0100"') == '\r\n+CGLA: 8,"01009000"\r\n' + OK
    basic, first, second = App.made
    assert first.selected and second.selected and not basic.selected
    assert phone.say("AT+CCHC=1") == OK and not first.selected
    assert phone.say('AT+CGLA=1,8,"00CA0100"') == ERROR
    assert phone.say("AT+CCHC=1") == OK  # closing what is closed does no harm
    assert phone.say("AT+CCHO=" + SELECT_A) == "\r\n+CCHO: 1\r\n" + OK
    for wrong in ("0", "4", "x", ""):
        assert phone.say("AT+CCHC=" + wrong) == ERROR
        assert phone.say('AT+CGLA=%s,8,"00CA0100"' % wrong) == ERROR


def test_no_such_application_leaves_no_channel_open():
    phone = Phone()
    for _ in range(5):
        assert phone.say('AT+CCHO="A0000000871002"') == ERROR
    for channel in (1, 2, 3):
        assert phone.say("AT+CCHO=" + SELECT_A) == "\r\n+CCHO: %d\r\n" % channel + OK
    assert phone.say("AT+CCHO=" + SELECT_A) == ERROR


def test_a_reset_of_the_modem_closes_channels():
    phone = Phone()
    phone.say("AT+CCHO=" + SELECT_A)
    assert phone.say("AT+CFUN=1") == OK
    assert phone.say('AT+CGLA=1,8,"00CA0100"') == ERROR
    phone.say("AT+CCHO=" + SELECT_A)
    phone.modem.reset()
    assert phone.say('AT+CGLA=1,8,"00CA0100"') == ERROR


def test_longest_apdu_and_lines_beyond():
    phone = Phone()
    apdu = "00DA0000FF" + "55" * 255 + "00"
    assert len(apdu) == 2 * MAX_APDU
    assert phone.say('AT+CSIM=%d,"%s"' % (len(apdu), apdu)).startswith("\r\n+CSIM: 8,")
    assert App.made[0].seen[-1] == b"\x00\xda\x00\x00\xff" + b"\x55" * 255 + b"\x00"
    apdu += "00"
    assert phone.say('AT+CSIM=%d,"%s"' % (len(apdu), apdu)) == ERROR
    assert phone.say("AT" + "A" * 5000) == ERROR
    assert phone.say("AT") == OK


def test_manage_channel():
    sim = Uicc(App)
    assert sim.process(b"\x00\x70\x00\x00\x01") == b"\x01\x90\x00"
    assert sim.process(b"\x01\x70\x80\x00") == b"\x90\x00"  # its own
    assert sim.process(b"\x01\xca\x01\x00") == b"\x68\x81"
    for n in (1, 2, 3):
        assert sim.process(b"\x00\x70\x00\x00\x01") == bytes((n, 0x90, 0x00))
    assert sim.process(b"\x00\x70\x00\x00\x01") == b"\x6a\x81"
    for wrong in (
        b"\x00\x70\x80\x00",
        b"\x00\x70\x80\x04",
        b"\x00\x70\x40\x00",
        b"\x00\x70\x00\x01",
    ):
        assert sim.process(wrong) == b"\x6a\x86"
