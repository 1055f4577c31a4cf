# SPDX-License-Identifier: Apache-2.0
"""The firmware onto a board: over its MicroPython prompt, with mpremote's transport.

An image goes into a folder of its own, /chipcash-BUILD, each file compared on the board by its SHA-256. Only
then is /main.py replaced, by a rename: it names the folder that the board starts from
(chipcash_board.install). So whatever breaks off leaves the firmware that was there, or on a new board none.
BUILD is chipcash.firmware.build_id().

On an RP2 the journal lies in the last blocks of the flash that MicroPython keeps for files: all files are
written through chipcash_board.flash.Files, which keeps off them. A board with files of others may have some
there already, and is refused. Has never been done to a board: the tests have MicroPython's unix port with
littlefs on an emulated flash."""

from __future__ import annotations

import errno
import hashlib
import importlib
import importlib.util
import inspect
import io
import json
import re
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from chipcash.boards.model import Board
from chipcash.crypto import PrivateKey
from chipcash.errors import ChipcashError, NoReaderError, TransportError
from chipcash.firmware import MANIFEST, build_id
from chipcash.transports.serial import failures, open_device
from chipcash_board import flash, install, update

PARTITION_KB = 96
"""Of the partition on an ESP32: the journal's banks, scratch_flash(), and some to spare."""
_READ_S = 5.0  # silence in the middle of a command after which the line counts as lost
_GREET_S = 1.0  # for the prompt
_VENDORS = (0x2E8A, 0x303A)  # of USB: Raspberry Pi, Espressif
_ARCHITECTURES = "- x86 x64 armv6 armv6m armv7m armv7em armv7emsp armv7emdp xtensa xtensawin"
"""As mpy-cross calls them, by MicroPython's number in sys.implementation._mpy."""
_MPY = 6, 3
"""Version of .mpy files with native code; a MicroPython takes one only."""
_MAIN = "/" + install.MAIN
_NEW = "/" + install.NEW


class FlashError(ChipcashError):
    """The board could not be read, written, measured or wiped. Facts: port, and what the board runs."""

    exit_code = 41


class RuntimeWanted(FlashError):
    """The board runs no MicroPython, or one that this firmware is not for."""

    exit_code = 42


@dataclass(frozen=True)
class Image:
    """What goes onto a board. files: content by path; manifest: as firmware/build.py writes it."""

    build: str
    manifest: dict[str, Any]
    files: dict[str, bytes]

    @classmethod
    def load(cls, folder: Path) -> Image:
        """The image in a folder, as `make firmware` leaves it. Raises FlashError if it is not whole."""
        try:
            written = (folder / MANIFEST).read_bytes()
            manifest = json.loads(written)
            files = {
                each["path"]: (folder / each["path"]).read_bytes() for each in manifest["files"]
            }
            sums = {each["path"]: each["sha256"] for each in manifest["files"]}
            manifest["board"], manifest["form"], manifest["arch"], files["main.py"]
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise FlashError(
                f"{folder} holds no image of the firmware: {error}.",
                hint="Build one with: make firmware",
            ) from None
        damaged = [path for path, data in files.items() if _sum(data) != sums[path]]
        if damaged:
            raise FlashError(
                f"The image in {folder} is damaged: {', '.join(damaged)}.",
                hint="Build it again with: make firmware",
            )
        return cls(build_id(written), manifest, {**files, MANIFEST: written})


@dataclass(frozen=True)
class Installed:
    """What a board says of itself.

    version: of MicroPython; machine: as it calls its board; port_board: name of the build, empty before 1.25;
    mpy: version of .mpy files, None where it takes none; arch: of native code. build: of the firmware that it
    starts, None for none; manifest: of that, if it can be read; damaged: files that are not as the manifest
    says; foreign: files of others in its root.
    """

    version: tuple[int, ...]
    machine: str
    port_board: str
    mpy: tuple[int, int] | None
    arch: str
    build: str | None
    manifest: dict[str, Any]
    damaged: list[str]
    foreign: list[str]

    @property
    def complete(self) -> bool:
        """Whether it starts a firmware, all of which is there."""
        return self.build is not None and not self.damaged


def runtime_source(board: Board) -> str:
    """Where the MicroPython for a board is, for people."""
    return (
        f"MicroPython for the {board.name}, {board.version} or newer, with how to put it there: "
        f"{board.runtime_url}"
    )


def partition_command(board: Board, runtime: str, output: str) -> list[str]:
    """The words of a command that puts a partition for the card's journal into the MicroPython for an ESP32.

    runtime: file from its download page; output: file that is written. The partition takes the end of the
    flash, from that of the files. The program is mp-image-tool-esp32, of the extra `esp32`."""
    flash_kb, storage_kb = board.flash_kb or 0, board.storage_kb or 0
    return [
        "mp-image-tool-esp32",
        runtime,
        "--resize",
        f"vfs={storage_kb - PARTITION_KB}K",
        "--add",
        f"{flash.LABEL}=fat:{flash_kb - PARTITION_KB}K:{PARTITION_KB}K",
        "-o",
        output,
    ]


def find_port() -> str:
    """The serial line of the one board that is plugged in. Raises NoReaderError: none, or several."""
    listing = importlib.import_module("serial.tools.list_ports")
    found = [port.device for port in listing.comports() if port.vid in _VENDORS]
    if len(found) == 1:
        return str(found[0])
    if found:
        raise NoReaderError(
            f"Several boards are plugged in: {', '.join(found)}.", hint="Name one with --port."
        )
    raise NoReaderError(
        "No board is plugged in, or it has no MicroPython yet.",
        hint="Plug it in, or name its line with --port if it hangs on a USB-to-serial converter. Where to "
        "get MicroPython: chipcash board show BOARD",
    )


def build_image(board: Board, form: str, folder: Path, key: Path | None = None) -> Image:
    """Build the firmware for a board and a form of card into a folder; key: its publisher's key file, without
    which it takes no updates. Raises FlashError, CryptoError."""
    publisher = None if key is None else PrivateKey.load(key)
    script = Path(__file__).parents[3] / "firmware" / "build.py"
    spec = importlib.util.spec_from_file_location("chipcash_firmware_build", script)
    if not script.is_file() or spec is None or spec.loader is None:
        raise FlashError(
            "The firmware's sources are not in an installed package.",
            hint="Flash from a checkout of chipcash, or name an image built in one with --image.",
        )
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    config = importlib.import_module(f"chipcash_boards.{board.id}")
    try:
        build.build(board.id, inspect.getsource(config), form, folder, publisher=publisher)
    except build.runtime.RuntimeMissing as error:
        raise FlashError(f"The firmware cannot be compiled: {error}.") from None
    except subprocess.CalledProcessError as error:
        raise FlashError(f"The compiler refuses the firmware: {error}.") from None
    return Image.load(folder)


class Prompt:
    """A board's MicroPython prompt. Make it with opened()."""

    def __init__(self, transport: Any, port: str) -> None:
        self._transport = transport
        self.port = port

    def installed(self) -> Installed:
        """What is on the board; reads every file of its firmware. Raises FlashError."""
        with self._told("The board could not be read"):
            self._transport.exec("import os, sys")
            version, machine, port_board, mpy = self._transport.eval(
                "(tuple(sys.implementation.version)[:3],) + tuple("
                "getattr(sys.implementation, x, y) for x, y in "
                "(('_machine', ''), ('_build', ''), ('_mpy', 0)))"
            )
            build = self._build()
            manifest, damaged = ({}, []) if build is None else self._check(build)
            ours = {install.NEW, install.BONDS, install.BONDS + ".new"}
            if build is not None:
                ours.add(install.MAIN)
            names = [each.name for each in self._transport.fs_listdir("/")]
        architectures = dict(enumerate(_ARCHITECTURES.split()))
        return Installed(
            tuple(version),
            machine,
            port_board,
            (mpy & 0xFF, mpy >> 8 & 3) if mpy else None,
            architectures.get(mpy >> 10 & 0xF, "another processor"),
            build,
            manifest,
            damaged,
            [name for name in names if name not in ours and not name.startswith(install.FOLDER)],
        )

    def refuse(self, found: Installed, board: Board, image: Image) -> None:
        """Nothing if an image may go onto the board; else raises RuntimeWanted or FlashError."""
        version = ".".join(map(str, found.version))
        native = image.manifest["arch"]
        problem = ""
        if found.port_board and found.port_board.partition("-")[0] != board.port_board:
            problem = f"is that of {found.port_board} ({found.machine}), not of {board.port_board}"
        elif found.version < tuple(map(int, board.version.split("."))):
            problem = f"is {version}, and {board.version} or newer is wanted"
        elif found.mpy != _MPY or found.arch != native:
            mpy = f".mpy {found.mpy[0]}.{found.mpy[1]}" if found.mpy else "no .mpy"
            problem = f"takes {mpy} for {found.arch}, and the firmware is .mpy 6.3 for {native}"
        if problem:
            raise RuntimeWanted(
                f"MicroPython on the board at {self.port} {problem}. Nothing was changed.",
                hint=runtime_source(board),
                port=self.port,
                version=version,
                build=found.port_board,
            )
        foreign = [name for name in found.foreign if name != "boot.py" or board.port != "esp32"]
        if foreign:
            raise FlashError(
                f"The board at {self.port} has files that are not chipcash's: {', '.join(foreign)}. "
                "They may lie where a card keeps its money. Nothing was changed.",
                hint="Copy what you need of them, then: chipcash board wipe",
                port=self.port,
                files=foreign,
            )
        if board.port == "esp32" and not self._has_partition():
            raise RuntimeWanted(
                f"The flash of the board at {self.port} has no data partition {flash.LABEL!r} for the card's "
                "journal. Nothing was changed.",
                hint="Make a MicroPython with one, and put it there, which removes all files (pip install "
                "'chipcash[esp32]'):\n"
                + " ".join(partition_command(board, "DOWNLOADED.bin", "chipcash.bin"))
                + f"\nmp-image-tool-esp32 chipcash.bin --flash {self.port}\n{runtime_source(board)}",
                port=self.port,
            )

    def deploy(self, image: Image, progress: Callable[[str, int, int, bool], None]) -> None:
        """Put an image onto the board, and have the next start take it. Files that are there are kept.

        progress: called after each file with its path, its number, of how many, whether it was written.
        Raises FlashError, whose message says what the board has then."""
        before: str | None = None
        state = "It has what it had before."
        folder = f"/{install.FOLDER}{image.build}"
        try:
            with self._told("The firmware could not be put onto the board"):
                before = self._build()
                if before == image.build:
                    state = "It starts the same build as before, which may be damaged."
                elif before is not None:
                    state = f"It still has the firmware it had, build {before}."
                else:
                    state = "It has no firmware yet."
                self._keep_off_the_journal()
                self._remove_folders_but(before, image.build)
                for number, (path, data) in enumerate(image.files.items(), 1):
                    written = self._write(f"{folder}/{path}", data)
                    progress(path, number, len(image.files), written)
                if before != image.build:
                    self._write(_NEW, install.SELECTOR.format(build=image.build).encode())
                    state = "It has the new firmware or what it had before: chipcash board info"
                    self._transport.exec(f"os.rename({_NEW!r}, {_MAIN!r})")
                    state = f"But it has the new firmware, build {image.build}."
                    self._remove_folders_but(image.build)
        except FlashError as error:
            raise FlashError(
                f"{error.message} {state}", hint=error.hint, build=before, **error.facts
            ) from None

    def wipe(self) -> None:
        """Remove all files, and the journal with key, money and log. Raises FlashError.

        What the board starts goes first: broken off, it leaves a board without firmware."""
        with self._told("The board could not be wiped"):
            self._transport.exec("import os, sys")
            self._keep_off_the_journal()
            self._transport.exec(_REMOVE + _WIPE)

    def run(self, program: str, silence: float = _READ_S) -> str:
        """What a program prints that runs in the board's memory; broken off, it is stopped.

        silence: seconds after which it counts as lost if it prints nothing. Raises FlashError."""
        with self._told("The board did not do what it was asked"):
            try:
                printed, error = self._transport.exec_raw(program, silence)
            except BaseException:
                with suppress(*_lost()):
                    self._transport.serial.write(b"\x03")
                raise
            if error:
                raise _mpremote().transport.TransportExecError(printed, error.decode())
        return bytes(printed).decode()

    def _build(self) -> str | None:
        """The build that the board starts, None if that is none of chipcash."""
        text = self._read(_MAIN).decode("utf-8", "replace")
        match = re.match(r"# chipcash ([0-9a-f]{12})\n", text)
        return match[1] if match and text == install.SELECTOR.format(build=match[1]) else None

    def _check(self, build: str) -> tuple[dict[str, Any], list[str]]:
        """Manifest of a build on the board, empty if that is damaged; paths that are missing or damaged."""
        folder = f"/{install.FOLDER}{build}"
        written = self._read(f"{folder}/{MANIFEST}")
        if build_id(written) != build:
            return {}, [MANIFEST]
        manifest = json.loads(written)
        damaged = [
            each["path"]
            for each in manifest["files"]
            if self._hash(f"{folder}/{each['path']}") != each["sha256"]
        ]
        return manifest, damaged

    def _read(self, path: str) -> bytes:
        """A file, empty if there is none."""
        return bytes(_unless(errno.ENOENT, lambda: self._transport.fs_readfile(path), b""))

    def _hash(self, path: str) -> str:
        """A file's SHA-256 in hex, empty if there is none."""
        found = _unless(errno.ENOENT, lambda: self._transport.fs_hashfile(path, "sha256"), b"")
        return bytes(found).hex()

    def _write(self, path: str, data: bytes) -> bool:
        """Have a file on the board; whether it had to be written."""
        if self._hash(path) == _sum(data):
            return False
        parents = Path(path).parents[:-1]
        for parent in map(str, reversed(parents)):
            _unless(errno.EEXIST, partial(self._transport.fs_mkdir, parent), None)
        self._transport.fs_writefile(path, data)
        if self._hash(path) != _sum(data):
            raise FlashError(f"the board does not keep what was written to {path}.")
        return True

    def _remove_folders_but(self, *builds: str | None) -> None:
        keep = [install.FOLDER + str(build) for build in builds]
        self._transport.exec(
            _REMOVE + "for name in os.listdir('/'):\n"
            f"    if name.startswith({install.FOLDER!r}) and name not in {keep}:\n"
            "        remove('/' + name)\n"
        )

    def _keep_off_the_journal(self) -> None:
        """On an RP2 mount the board's files anew, so that writing them leaves the journal alone."""
        constants = ("BLOCK", "BANK", "SCRATCH", "_PAGE", "_BAD_BLOCK", "_COUNT", "_ERASE")
        source = "".join(f"{name} = {getattr(flash, name)}\n" for name in constants)
        for part in (flash.Files, flash.mount_files):
            source += inspect.getsource(part)
        self._transport.exec(source + _MOUNT)

    def _has_partition(self) -> bool:
        with self._told("The board could not be read"):
            self._transport.exec("from esp32 import Partition")
            found = self._transport.eval(
                f"len(list(Partition.find(Partition.TYPE_DATA, label={flash.LABEL!r})))"
            )
        return bool(found)

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """Whatever fails as a FlashError that people can read."""
        mpremote = _mpremote()
        hint = "Plug the board in anew, and give the same command again."
        try:
            yield
            return
        except FlashError as error:
            reason = error.message
        except mpremote.transport.TransportExecError as error:
            reason = f"{(error.error_output.strip().splitlines() or ['it failed'])[-1]}."
        except (*_lost(), mpremote.transport.TransportError) as error:
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                reason = "its file system is full."
                hint = "See that the board has the flash that `chipcash board show` says."
            else:
                reason = f"the line failed ({error})."
        raise FlashError(f"{what}: {reason}", hint=hint, port=self.port)


_REMOVE = inspect.getsource(update.remove)

_MOUNT = """
try:
    import rp2
except ImportError:
    rp2 = None
if rp2:
    import gc
    gc.collect()
    _files = mount_files(rp2.Flash())
"""

_WIPE = f"""
if "main.py" in os.listdir("/"):
    os.remove("/main.py")
def _erase(device, first):
    for block in range(first, device.ioctl(_COUNT, 0)):
        device.ioctl(_ERASE, block)
if rp2:
    _erase(rp2.Flash(), rp2.Flash().ioctl(_COUNT, 0) - 2 * BANK // BLOCK)
    import vfs
    vfs.umount("/")
    vfs.VfsLfs2.mkfs(_files, progsize=256)
    vfs.mount(vfs.VfsLfs2(_files, progsize=256), "/")
if sys.platform == "esp32":
    from esp32 import Partition
    for device in Partition.find(Partition.TYPE_DATA, label={flash.LABEL!r}):
        _erase(device, 0)
for name in os.listdir("/"):
    remove("/" + name)
"""


@contextmanager
def opened(port: str, wait: float, board: Board | None = None) -> Iterator[Prompt]:
    """The prompt of the board on a serial line; afterwards the board starts anew.

    What runs on it is stopped. wait: seconds to wait for board and prompt; board: for the message if there
    is none. Raises RuntimeWanted if nothing answers; NoReaderError, TransportError if the line cannot be
    opened."""
    transport = _greeted(port, wait, board)
    try:
        yield Prompt(transport, port)
    finally:
        with suppress(*_lost()):
            transport.exit_raw_repl()
            transport.serial.write(b"\x04")  # starts main.py
            transport.serial.flush()
        with suppress(*_lost()):
            transport.close()


def _greeted(port: str, wait: float, board: Board | None) -> Any:
    """mpremote's transport with the board at its raw prompt."""
    mpremote = _mpremote()
    deadline = time.monotonic() + wait
    while True:
        transport = None
        try:
            with redirect_stdout(io.StringIO()):  # it prints what it did not understand
                transport = mpremote.transport_serial.SerialTransport(port, timeout=_READ_S)
                transport.serial.write_timeout = _READ_S
                transport.enter_raw_repl(soft_reset=False, timeout_overall=_GREET_S)
            return transport
        except (*_lost(), mpremote.transport.TransportError):
            if transport is not None:
                with suppress(*_lost()):
                    transport.close()
        if time.monotonic() >= deadline:
            break
        time.sleep(0.1)
    if transport is None:
        open_device(port, f"serial:{port}").close()  # says why it cannot be opened
    raise RuntimeWanted(
        f"Nothing at {port} answers as MicroPython.",
        hint="If a card with a USB link runs there, it answers in its first 1.5 s only: unplug it, give this "
        "command again, and plug it in while that waits. "
        + (runtime_source(board) if board else "Else see: chipcash board show BOARD"),
        port=port,
    )


def _unless(number: int, act: Callable[[], Any], default: Any) -> Any:
    """What act() returns; default if it fails with that error."""
    try:
        return act()
    except OSError as error:
        if error.errno != number:
            raise
        return default


def _sum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _lost() -> tuple[type[Exception], ...]:
    """What a line raises that fails, or on which something else answers than a prompt."""
    return (*failures(), struct.error, ValueError, SyntaxError)


def _mpremote() -> Any:
    """mpremote, loaded late."""
    try:
        importlib.import_module("mpremote.transport_serial")
        return importlib.import_module("mpremote")
    except ImportError as error:
        raise TransportError(
            f"Boards need the Python package mpremote, which cannot be loaded: {error}.",
            hint="Run: pip install mpremote",
        ) from None
