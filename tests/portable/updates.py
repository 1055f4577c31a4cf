# SPDX-License-Identifier: Apache-2.0
"""Firmware updates for the tests: a publisher, images, a board's files. Portable."""

import os

from chipcash_board import install
from chipcash_card.applet import Firmware
from chipcash_wire import card_objects as o
from chipcash_wire import firmware

OLD = "00000000aaaa"
NEW = "111111111111"
TARGET = b"board-card"
ROLLBACK = 5
FILES = (
    ("chipcash_card/applet.mpy", bytes(range(200)) * 3),
    ("chipcash_card/empty.mpy", b""),
    ("main.py", b"print('new')\n"),
    ("manifest.json", b"{}"),
)


def body(files=FILES):
    """An image's files as a body."""
    data = b""
    for path, content in files:
        path = path.encode()
        data += bytes((len(path),)) + path + len(content).to_bytes(4, "big") + content
    return data


def head(net, key, data, **changes):
    """The head of an update, signed by key (network.Network.key()), encoded."""
    values = {
        "header": o.make_header(firmware.NO_NETWORK, net.suite.id),
        "signer": net.key_id(key),
        "target": TARGET,
        "build": b"2.0+" + NEW.encode(),
        "rollback": ROLLBACK,
        "size": len(data),
        "digest": net.suite.hash(data),
    }
    values.update(changes)
    return net.sign(key, firmware.Firmware(**values)).encode()


def install_old(root):
    """The files of a board that runs OLD; root: with a slash at its end."""
    os.mkdir(root + install.FOLDER + OLD)
    for path, content in (
        (install.FOLDER + OLD + "/main.py", b"print('old')\n"),
        (install.MAIN, install.SELECTOR.format(build=OLD).encode()),
    ):
        with open(root + path, "wb") as file:
            file.write(content)


def running(net, key, root):
    """What runs on that board; key: its publisher's."""

    def updates():
        from chipcash_board.update import Update  # late, as a board does

        return Update((net.suite.id, key.public), TARGET, OLD, ROLLBACK, root)

    return Firmware(b"1.0+" + OLD.encode(), ROLLBACK, updates)


def tree(folder):
    """Path to content of all files below a folder, which has a slash at its end."""
    found = {}
    for name in os.listdir(folder):
        path = folder + name
        if os.stat(path)[0] & 0x4000:
            below = tree(path + "/")
            for each in below:
                found[name + "/" + each] = below[each]
            if not below:
                found[name + "/"] = None
        else:
            with open(path, "rb") as file:
                found[name] = file.read()
    return found


def started(root):
    """The build that a board starts, all of which must be there as it was installed or signed."""
    files = tree(root)
    for build, wanted in ((OLD, (("main.py", b"print('old')\n"),)), (NEW, FILES)):
        if files[install.MAIN] == install.SELECTOR.format(build=build).encode():
            for path, content in wanted:
                assert files[install.FOLDER + build + "/" + path] == content, path
            return build
    raise AssertionError(files[install.MAIN])
