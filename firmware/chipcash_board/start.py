# SPDX-License-Identifier: Apache-2.0
"""From a board's configuration to a running card. Has never run on hardware: the tests emulate the chips.

A configuration is a module of constants, or anything else with these attributes:

| name | what |
|---|---|
| LINKS, PERIPHERALS | of each form of card: its links, the way to a terminal first, and what is soldered on |
| PN532_BUS, DISPLAY_BUS | i2c, spi, or (PN532) uart |
| ..._INSTANCE, ..._HZ, ..._ADDRESS | of that bus, as MicroPython numbers them; address by I2C only |
| ..._SDA, ..._SCL; ..._SCK, ..._MOSI, ..._MISO, ..._SS; ..._TX, ..._RX; DISPLAY_DC | GPIO numbers |
| BUTTONS_CONFIRM, BUTTONS_REFUSE | GPIO numbers; pressed is low |
| LED_RED, LED_GREEN, LED_BLUE, BUZZER_TONE | GPIO numbers; the LED is lit while they are high |
| ATECC608_SDA, ATECC608_SCL | GPIO numbers of a bus of its own |
| VERSION, ROLLBACK | of the firmware; firmware/build.py writes these, and the next, into the image |
| PUBLISHER | who signs its updates, as suite and public key; None for nobody |
| TARGET | board and form, as in `pico2w-ic-card` |

The secure elements are atecc608 and tropic01, the latter always on SPI; if none answers, new keys are made in
flash.

The links are nfc (a PN532), ble (Bluetooth), ccid (USB) and serial (USB-CDC). Where a form has both ccid and
serial, MicroPython's serial line stays beside the reader, for that link; with ccid alone the reader is all
that USB shows, and no prompt is reached over it once the card runs."""

import gc
import os
import sys
import time

from chipcash_board import install
from chipcash_board.polling import BoardLoop, Front
from chipcash_card.applet import Applet, Firmware
from chipcash_card.journal import NewerFirmware
from chipcash_card.keys import KeyStore
from chipcash_drivers.buttons import Buttons
from chipcash_links.link import Link
from chipcash_wire.compat import TYPE_CHECKING, keep_heap_whole

if TYPE_CHECKING:
    from typing import Any, Callable

    from chipcash_board.polling import BoardLink
    from chipcash_card.applet import Updates
    from chipcash_card.keys import Element
    from chipcash_drivers.indicator import Indicator
    from chipcash_drivers.pn532 import Bus
    from chipcash_panel.panel import Panel

SAFE_MS = 1500
"""A card whose USB is its link waits so long before it takes that over: Ctrl-C gets through till then."""


class Line:
    """A link over a line of bytes, for the board's loop. port: with ready() besides what a Port has."""

    def __init__(self, link: Link, port: "Stdio") -> None:
        self._link = link
        self._port = port
        self.reset = link.reset
        self.working = link.working

    def ready(self) -> bool:
        """Whether bytes came."""
        return self._port.ready()

    def poll(self) -> None:
        """Take the bytes that came."""
        if self._port.ready():
            self._link.take(self._port.receive())


class Stdio:
    """The port that is MicroPython's own console: USB-CDC on boards. From here on no byte interrupts."""

    def __init__(self) -> None:
        import select

        from micropython import kbd_intr

        kbd_intr(-1)
        self._poll = select.poll()
        self._poll.register(sys.stdin, select.POLLIN)

    def give_back(self) -> None:
        """It is MicroPython's own again: Ctrl-C interrupts."""
        from micropython import kbd_intr

        kbd_intr(3)

    def ready(self) -> bool:
        """Whether bytes came."""
        return bool(self._poll.poll(0))

    def receive(self) -> bytes:
        """The bytes that came, at most 64, so that other links have their turn."""
        data = b""
        while len(data) < 64 and self._poll.poll(0):
            data += sys.stdin.buffer.read(1)
        return data

    def send(self, data: bytes) -> None:
        """Send some bytes."""
        sys.stdout.buffer.write(data)


class Peeked:
    """A bus of the PN532 that tells whether the chip has something: it reads it, and keeps it for read()."""

    def __init__(self, bus: "Bus") -> None:
        self._bus = bus
        self._kept = b""

    def ready(self) -> bool:
        """Whether read() has something; not where the chip does not answer, which is poll()'s to mend."""
        if not self._kept:
            try:
                self._kept = self._bus.read()
            except OSError:
                pass
        return bool(self._kept)

    def read(self) -> bytes:
        """As the bus."""
        self.ready()
        kept = self._kept
        self._kept = b""
        return kept

    def wake(self) -> None:
        """As the bus; what was kept is no longer of interest."""
        self._kept = b""
        self._bus.wake()

    def write(self, frame: bytes) -> None:
        """As the bus."""
        self._bus.write(frame)


class Nfc:
    """The contactless link, for the board's loop."""

    def __init__(self, applet: Applet, bus: "Bus", random: "Callable[[int], bytes]") -> None:
        from chipcash_drivers.pn532 import Target

        peeked = Peeked(bus)
        target = Target(applet.session(over_air=True), peeked, random)
        self.ready = peeked.ready
        self.poll = target.poll
        self.reset = target.reset
        self.working = target.working


def make_loop(  # type: ignore[no-untyped-def]
    config: "Any",
    form: str,
    device,
    random: "Callable[[int], bytes]",
    machine: "Any",
    serial: "Stdio | None" = None,
    bluetooth: "Any" = None,
    bonds: str = "",
    firmware: "Firmware | None" = None,
) -> BoardLoop:
    """The loop of a card, ready to run. device: the journal's, see there; machine: MicroPython's module;
    serial: the port of the link of that name; bluetooth: MicroPython's module, for ble; bonds: a file for
    what pairing leaves behind, if there may be one; firmware: what runs. Raises as Applet."""
    keep_heap_whole()  # before what lives as long as the board
    gc.collect()
    front = None
    panel: "Panel | None" = None
    if "display" in config.PERIPHERALS[form]:
        from chipcash_drivers.ssd1306 import Display
        from chipcash_panel.panel import CONFIRM_ABOVE, Panel

        display = Display(_display_bus(config, machine))
        panel = Panel(CONFIRM_ABOVE, display.show)
        front = Front(panel, display, _buttons(config, machine))
    element = _element(config, form, machine, random)
    wanted = ("atecc608", "tropic01")
    if element is None and any(name in config.PERIPHERALS[form] for name in wanted):
        print("chipcash: no secure element answers, so a new key would be in flash")
    keys = KeyStore(machine.unique_id(), element)
    indicator = _indicator(config, form, machine)
    applet = Applet(device, random, panel, keys, indicator, firmware)
    links: "list[BoardLink]" = []
    if "nfc" in config.LINKS[form]:
        links.append(Nfc(applet, _pn532_bus(config, machine), random))
    if bluetooth is not None:
        from chipcash_drivers.ble import Ble, Bonds

        session = applet.session(over_air=True, far=True)
        try:
            links.append(Ble(session, bluetooth, Bonds(bonds), random))
        except (OSError, ValueError) as error:
            # A MicroPython that cannot pair: nothing may pass by its Bluetooth, but taps go on.
            print("chipcash: no Bluetooth:", error)
            bluetooth.BLE().active(False)
    if "ccid" in config.LINKS[form]:
        from chipcash_drivers.usb_ccid import UsbCcid
        from chipcash_links.ccid import ATR_T1

        console = "serial" in config.LINKS[form]
        links.append(UsbCcid(applet.session(), machine.USBDevice(), ATR_T1, console))
    if serial is not None:
        from chipcash_links.serial import Serial

        links.append(Line(Serial(applet.session(), serial), serial))
    return BoardLoop(links, applet, front, indicator)


def start(config: "Any", form: str) -> None:
    """Be a card until power goes; on a board only.

    Safe mode: it returns at once when a button is held at power on, or, where USB is the card's link, raises
    KeyboardInterrupt at a Ctrl-C in the first SAFE_MS. MicroPython's prompt is there then, and nothing of the
    card was touched; so too where newer firmware has run the card. Raises OSError if there is no flash for
    the journal.
    """
    import machine  # type: ignore[import-not-found]

    from chipcash_board.flash import board_flash, mount_files

    if "buttons" in config.PERIPHERALS[form] and _buttons(config, machine).held():
        print("chipcash: safe mode, since a button is held")
        return
    serial = None
    if "serial" in config.LINKS[form] or "ccid" in config.LINKS[form]:
        time.sleep(SAFE_MS / 1000)
    if "serial" in config.LINKS[form]:
        serial = Stdio()
    bluetooth = None
    if "ble" in config.LINKS[form]:
        import bluetooth  # type: ignore[import-not-found, no-redef]
    if sys.platform == "rp2":
        import rp2  # type: ignore[import-not-found]

        mount_files(rp2.Flash())
    device = board_flash(sys.platform)
    firmware = _firmware(config)
    try:
        loop = make_loop(
            config, form, device, os.urandom, machine, serial, bluetooth, install.BONDS, firmware
        )
    except NewerFirmware as error:
        print("chipcash: not started, and the card is as it was:", error)
        print("chipcash: newer firmware has run it; flash that")
        if serial is not None:
            serial.give_back()
        return
    loop.run()


def _firmware(config: "Any") -> Firmware:
    """What runs, as its image's configuration and its folder say."""
    build = install.running()

    def updates() -> "Updates":
        from chipcash_board.update import Update  # most cards never take one

        return Update(config.PUBLISHER, config.TARGET.encode(), build, config.ROLLBACK)

    name = config.VERSION + "+" + build if build else config.VERSION
    can = build and config.PUBLISHER is not None
    return Firmware(name.encode(), config.ROLLBACK, updates if can else None)


def _element(
    config: "Any", form: str, machine: "Any", random: "Callable[[int], bytes]"
) -> "Element | None":
    """The first of the form's secure elements that is there."""
    if "atecc608" in config.PERIPHERALS[form]:
        from chipcash_drivers.atecc608 import HZ, Atecc608

        scl, sda = machine.Pin(config.ATECC608_SCL), machine.Pin(config.ATECC608_SDA)
        atecc608 = Atecc608(machine.SoftI2C(scl=scl, sda=sda, freq=HZ))
        if atecc608.present():
            return atecc608
        _forget("atecc608")
    if "tropic01" in config.PERIPHERALS[form]:
        from chipcash_drivers.tropic01 import Tropic01

        spi = _spi(config, machine, "TROPIC01")
        tropic01 = Tropic01(spi, machine.Pin(config.TROPIC01_SS, machine.Pin.OUT), random)
        if tropic01.present():
            return tropic01
        _forget("tropic01")
    return None


def _forget(driver: str) -> None:
    """Give the heap back that the driver of a chip takes which is not there: kilobytes."""
    sys.modules.pop("chipcash_drivers." + driver, None)
    package = sys.modules["chipcash_drivers"]
    if hasattr(package, driver):
        delattr(package, driver)


def _indicator(config: "Any", form: str, machine: "Any") -> "Indicator | None":
    """The LED and the buzzer, whichever of them the form has."""
    peripherals = config.PERIPHERALS[form]
    if "led" not in peripherals and "buzzer" not in peripherals:
        return None
    from chipcash_drivers.indicator import LED_HZ, Indicator

    def pwm(number: int) -> "Any":
        return machine.PWM(machine.Pin(number), freq=LED_HZ, duty_u16=0)

    led = (config.LED_RED, config.LED_GREEN, config.LED_BLUE) if "led" in peripherals else ()
    buzzer = pwm(config.BUZZER_TONE) if "buzzer" in peripherals else None
    return Indicator([pwm(number) for number in led], buzzer)


def _buttons(config: "Any", machine: "Any") -> Buttons:
    from chipcash_panel.panel import CONFIRM, REFUSE

    pin = machine.Pin
    return Buttons(
        [
            (CONFIRM, pin(config.BUTTONS_CONFIRM, pin.IN, pin.PULL_UP)),
            (REFUSE, pin(config.BUTTONS_REFUSE, pin.IN, pin.PULL_UP)),
        ]
    )


def _display_bus(config: "Any", machine: "Any") -> "Any":
    from chipcash_drivers import ssd1306

    pin = machine.Pin
    if config.DISPLAY_BUS == "i2c":
        i2c = _i2c(config, machine, "DISPLAY")
        return ssd1306.I2c(i2c, config.DISPLAY_ADDRESS)
    return ssd1306.Spi(
        _spi(config, machine, "DISPLAY"),
        pin(config.DISPLAY_DC, pin.OUT),
        pin(config.DISPLAY_SS, pin.OUT),
    )


def _pn532_bus(config: "Any", machine: "Any") -> "Bus":
    from chipcash_drivers import pn532

    pin = machine.Pin
    if config.PN532_BUS == "i2c":
        i2c = _i2c(config, machine, "PN532")
        return pn532.I2c(i2c, config.PN532_ADDRESS)
    if config.PN532_BUS == "spi":
        return pn532.Spi(_spi(config, machine, "PN532"), pin(config.PN532_SS, pin.OUT))
    return pn532.Hsu(
        machine.UART(
            config.PN532_INSTANCE, 115200, tx=pin(config.PN532_TX), rx=pin(config.PN532_RX)
        )
    )


def _i2c(config: "Any", machine: "Any", name: str) -> "Any":
    """The bus of that peripheral."""
    pin = machine.Pin
    return machine.I2C(
        getattr(config, name + "_INSTANCE"),
        scl=pin(getattr(config, name + "_SCL")),
        sda=pin(getattr(config, name + "_SDA")),
        freq=getattr(config, name + "_HZ"),
    )


def _spi(config: "Any", machine: "Any", name: str) -> "Any":
    """The bus of that peripheral, in mode 0."""
    pins = {}
    for wire in ("SCK", "MOSI", "MISO"):
        number = getattr(config, name + "_" + wire, None)
        if number is not None:
            pins[wire.lower()] = machine.Pin(number)
    return machine.SPI(
        getattr(config, name + "_INSTANCE"),
        baudrate=getattr(config, name + "_HZ"),
        polarity=0,
        phase=0,
        **pins,
    )
