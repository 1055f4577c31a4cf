# SPDX-License-Identifier: Apache-2.0
"""The partition for an ESP32's journal: what `chipcash board flash` tells to do, done, and read back by
Espressif's parser.

The image is made up: bootloader, MicroPython's table for 8 MB, an app of nothing (formats: ESP-IDF's
programming guide, "Partition Tables", and esptool's "Firmware Image Format")."""

from __future__ import annotations

import hashlib
import shutil
import struct
import subprocess
import sys
from functools import reduce
from operator import xor
from pathlib import Path

import pytest
from esp_idf_defs.partitions import PartitionTable

from chipcash.boards import board_named
from chipcash.boards.flashing import PARTITION_KB, partition_command
from chipcash_board.flash import BANK, BLOCK, LABEL, SCRATCH

BOARD = board_named("esp32s3")
FLASH = (BOARD.flash_kb or 0) * 1024
FILES = (BOARD.storage_kb or 0) * 1024
TABLE, APP = 0x8000, 0x10000
_ESP32_S3 = 9
_8_MB = 0x3F


def image(size: int) -> bytes:
    """A program of one empty segment, for an ESP32-S3."""
    head = struct.pack("<BBBBI", 0xE9, 1, 2, _8_MB, 0x40374000)
    head += struct.pack("<B3xHBHH4xB", 0xEE, _ESP32_S3, 0, 0, 99, 1)
    body = head + struct.pack("<II", 0x3FC90000, size) + bytes(size)
    body += bytes(15 - len(body) % 16) + bytes([reduce(xor, bytes(size), 0xEF)])
    return body + hashlib.sha256(body).digest()


def table(*parts: tuple[str, int, int, int, int]) -> bytes:
    """A partition table of (label, type, subtype, offset, size), with its MD5."""
    entries = b"".join(
        struct.pack("<HBBII16sI", 0x50AA, kind, subtype, offset, size, label.encode(), 0)
        for label, kind, subtype, offset, size in parts
    )
    return entries + b"\xeb\xeb" + b"\xff" * 14 + hashlib.md5(entries).digest()


STOCK = (
    ("nvs", 1, 2, 0x9000, 0x6000),
    ("phy_init", 1, 1, 0xF000, 0x1000),
    ("factory", 0, 0, APP, FLASH - FILES - APP),
    ("vfs", 1, 0x81, FLASH - FILES, FILES),
)


def test_the_command_adds_the_partition_and_changes_nothing_else(tmp_path: Path) -> None:
    program = Path(sys.executable).parent / "mp-image-tool-esp32"
    if not program.is_file() and shutil.which(program.name) is None:
        pytest.skip("mp-image-tool-esp32 is not installed")
    whole = image(0x4000).ljust(TABLE, b"\xff") + table(*STOCK).ljust(0x1000, b"\xff")
    whole = whole.ljust(APP, b"\xff") + image(0x4000)
    (tmp_path / "stock.bin").write_bytes(whole)
    words = partition_command(BOARD, "stock.bin", "out.bin")
    assert words[0] == program.name
    done = subprocess.run(
        [str(program) if program.is_file() else program.name, *words[1:]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    made = (tmp_path / "out.bin").read_bytes()
    assert made[:TABLE] == whole[:TABLE] and made[APP:] == whole[APP:]
    found = PartitionTable.from_binary(made[TABLE : TABLE + 0x1000])  # checks the MD5 too
    found.verify()
    size = PARTITION_KB * 1024
    assert [(each.name, each.type, each.subtype, each.offset, each.size) for each in found] == [
        *STOCK[:3],
        ("vfs", 1, 0x81, FLASH - FILES, FILES - size),
        (LABEL, 1, 0x81, FLASH - size, size),
    ]
    assert not any(each.encrypted for each in found)
    assert size >= 2 * BANK + SCRATCH * BLOCK and size % BLOCK == 0


def test_the_readme_has_the_same_command() -> None:
    readme = (Path(__file__).parents[2] / "hardware" / "README.md").read_text()
    assert " ".join(partition_command(BOARD, "DOWNLOADED.bin", "chipcash.bin")) in readme
