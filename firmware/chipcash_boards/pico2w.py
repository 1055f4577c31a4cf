# SPDX-License-Identifier: Apache-2.0
"""Raspberry Pi Pico 2 W: pins, by GPIO number, and buses, by MicroPython's number. Portable.

Written by `make boards` from hardware/boards/pico2w.toml; not by hand."""

BOARD = "pico2w"
LINKS = {
    "visual-bluetooth": ("nfc", "ble"),
    "ic-card": ("nfc",),
    "usb-reader": ("ccid", "serial"),
}
PERIPHERALS = {
    "visual-bluetooth": ("pn532", "display", "buttons", "battery", "atecc608", "tropic01"),
    "ic-card": ("pn532", "atecc608", "tropic01"),
    "usb-reader": ("led", "buzzer"),
}

PN532_PART = "pn532"
PN532_BUS = "i2c"
PN532_INSTANCE = 0
PN532_HZ = 400000
PN532_ADDRESS = 36
PN532_SDA = 4
PN532_SCL = 5
PN532_IRQ = 6
PN532_RSTPDN = 7

DISPLAY_PART = "ssd1306"
DISPLAY_BUS = "i2c"
DISPLAY_INSTANCE = 1
DISPLAY_HZ = 400000
DISPLAY_ADDRESS = 60
DISPLAY_SDA = 10
DISPLAY_SCL = 11

ATECC608_PART = "atecc608"
ATECC608_SDA = 2
ATECC608_SCL = 3

TROPIC01_PART = "tropic01"
TROPIC01_BUS = "spi"
TROPIC01_INSTANCE = 1
TROPIC01_HZ = 1000000
TROPIC01_SCK = 26
TROPIC01_MOSI = 27
TROPIC01_MISO = 12
TROPIC01_SS = 13

BUTTONS_PART = "two-buttons"
BUTTONS_CONFIRM = 14
BUTTONS_REFUSE = 15

LED_PART = "rgb-led"
LED_RED = 18
LED_GREEN = 19
LED_BLUE = 20

BUZZER_PART = "buzzer"
BUZZER_TONE = 22

BATTERY_PART = "lipo-shim"
BATTERY_SENSE = 28
