# SPDX-License-Identifier: Apache-2.0
"""What MicroPython does at an RP2's power on, on the unix port: its file system, and main.py."""

import os
import sys

import rp2
import vfs

_device = rp2.Flash()
try:
    _system = vfs.VfsLfs2(_device, progsize=256)
except OSError:
    vfs.VfsLfs2.mkfs(_device, progsize=256)
    _system = vfs.VfsLfs2(_device, progsize=256)
vfs.umount("/")
vfs.mount(_system, "/")
os.chdir("/")
sys.path[:] = ["", ".frozen", "/lib"]
if "main.py" in os.listdir("/"):
    try:
        with open("/main.py") as _main:
            exec(_main.read(), {"__name__": "__main__"})
    except Exception as error:
        sys.print_exception(error)
