# SPDX-License-Identifier: Apache-2.0
"""Espressif ESP32-S3-DevKitC-1: pins, by GPIO number, and buses, by MicroPython's number. Portable.

Written by `make boards` from hardware/boards/esp32s3.toml; not by hand."""

BOARD = "esp32s3"
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
PN532_BUS = "spi"
PN532_INSTANCE = 1
PN532_HZ = 1000000
PN532_SCK = 12
PN532_MOSI = 11
PN532_MISO = 13
PN532_SS = 10
PN532_IRQ = 14
PN532_RSTPDN = 21

DISPLAY_PART = "ssd1306"
DISPLAY_BUS = "i2c"
DISPLAY_INSTANCE = 0
DISPLAY_HZ = 400000
DISPLAY_ADDRESS = 60
DISPLAY_SDA = 8
DISPLAY_SCL = 9

ATECC608_PART = "atecc608"
ATECC608_SDA = 17
ATECC608_SCL = 18

TROPIC01_PART = "tropic01"
TROPIC01_BUS = "spi"
TROPIC01_INSTANCE = 2
TROPIC01_HZ = 1000000
TROPIC01_SCK = 40
TROPIC01_MOSI = 41
TROPIC01_MISO = 42
TROPIC01_SS = 39

BUTTONS_PART = "two-buttons"
BUTTONS_CONFIRM = 15
BUTTONS_REFUSE = 16

LED_PART = "rgb-led"
LED_RED = 4
LED_GREEN = 5
LED_BLUE = 6

BUZZER_PART = "buzzer"
BUZZER_TONE = 7

BATTERY_PART = "lipo-boost"
BATTERY_SENSE = 1
