# SPDX-License-Identifier: Apache-2.0
"""chipcash emulator: pins, by GPIO number, and buses, by MicroPython's number. Portable.

Written by `make boards` from hardware/boards/unix.toml; not by hand."""

BOARD = "unix"
LINKS = {
    "visual-bluetooth": ("nfc", "ble"),
    "ic-card": ("nfc",),
    "esim": ("nfc", "at"),
    "sd-card": ("nfc", "sd"),
    "sim-card": ("nfc", "at"),
    "usb-reader": ("ccid", "serial"),
}
PERIPHERALS = {
    "visual-bluetooth": (),
    "ic-card": (),
    "esim": (),
    "sd-card": (),
    "sim-card": (),
    "usb-reader": (),
}
