# SPDX-License-Identifier: Apache-2.0
"""What MicroPython does at an RP2's power on, on the unix port: its file system, and main.py.

sys says that this is a Raspberry Pi Pico 2 W, but for its processor."""

import os
import sys

import machine
import rp2
import vfs


class _Named:
    """Names with values, in place of a module."""


_sys = _Named()
for _name in dir(sys):
    setattr(_sys, _name, getattr(sys, _name))
_sys.platform = "rp2"
_sys.implementation = _Named()
for _name in ("name", "version", "_mpy"):
    setattr(_sys.implementation, _name, getattr(sys.implementation, _name))
_sys.implementation._machine = "Raspberry Pi Pico 2 W with RP2350"
_sys.implementation._build = "RPI_PICO2_W"
sys.modules["sys"] = _sys
_machine = _Named()
for _name in dir(machine):
    setattr(_machine, _name, getattr(machine, _name))
_machine.unique_id = lambda: b"\xe6\x60\x58\x38\x83\x1f\x2a\x2b"


class _Pwm:
    """An LED, or a buzzer."""

    def __init__(self, pin, freq, duty_u16):
        pass

    def freq(self, hz):
        pass

    def duty_u16(self, duty):
        pass


_machine.Pin = lambda number: number
_machine.PWM = _Pwm
_machine.freq = lambda: 150000000
sys.modules["machine"] = _machine

_device = rp2.Flash()
try:
    _system = vfs.VfsLfs2(_device, progsize=256)
except OSError:
    vfs.VfsLfs2.mkfs(_device, progsize=256)
    _system = vfs.VfsLfs2(_device, progsize=256)
vfs.umount("/")
vfs.mount(_system, "/")
del _system, _device  # a port keeps no other hold of them
os.chdir("/")
sys.path[:] = ["", ".frozen", "/lib"]
if os.getenv("CHIPCASH_CONSOLE"):
    print(".", end="")  # from here on the console is there
if "main.py" in os.listdir("/"):
    try:
        with open("/main.py") as _main:
            exec(_main.read(), {"__name__": "__main__"})
    except BaseException as error:
        sys.print_exception(error)
