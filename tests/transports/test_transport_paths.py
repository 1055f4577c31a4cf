# SPDX-License-Identifier: Apache-2.0
"""Paths, emulated cards by path, errors as programs see them, and the doctor."""

from pathlib import Path

import pytest

from chipcash import doctor
from chipcash.errors import ChipcashError, LinkLostError, NoCardError, PathError
from chipcash.transports import open_path
from chipcash.transports.pcsc import is_contactless, t0_command
from chipcash_sim.image import FileFlash
from chipcash_wire import commands
from chipcash_wire.trace import printable

SELECT = commands.command(commands.INS_SELECT, 4, 0, commands.AID)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A card without anything on it."""
    path = tmp_path / "card.img"
    FileFlash(str(path)).close()
    return path


@pytest.mark.parametrize("path", ["", "pcsc", "usb:1", "/dev/ttyACM0"])
def test_not_a_path(path: str) -> None:
    with pytest.raises(PathError) as caught:
        open_path(path)
    assert caught.value.exit_code == 2 and "pcsc:" in caught.value.hint


@pytest.mark.parametrize(
    "query", ["runtime=java", "cut_write=-1", "cut_write=x", "contactless=yes", "colour=red"]
)
def test_wrong_options_of_an_emulated_card(image: Path, query: str) -> None:
    with pytest.raises(PathError, match="does not exist"):
        open_path(f"sim:{image}?{query}")


def test_no_such_image(tmp_path: Path) -> None:
    with pytest.raises(PathError):
        open_path("sim:")
    with pytest.raises(NoCardError) as caught:
        open_path(f"sim:{tmp_path}/none.img")
    assert not list(tmp_path.iterdir())
    assert caught.value.facts["path"] == f"sim:{tmp_path}/none.img"


@pytest.mark.parametrize("runtime", ["inprocess", "cpython", "micropython"])
def test_an_emulated_card_answers(image: Path, runtime: str) -> None:
    with open_path(f"sim:{image}?runtime={runtime}&contactless=1") as card:
        assert card.over_air
        assert len(card.transceive(SELECT)) >= 2
    card.close()


@pytest.mark.parametrize("runtime", ["inprocess", "cpython"])
@pytest.mark.parametrize("fault", ["cut_before=2", "cut_after=2"])
def test_power_cut_by_path(image: Path, runtime: str, fault: str) -> None:
    with open_path(f"sim:{image}?runtime={runtime}&{fault}") as card:
        card.transceive(SELECT)
        for _ in range(2):
            with pytest.raises(LinkLostError) as caught:
                card.transceive(SELECT)
            assert caught.value.maybe_executed


def test_error_as_json() -> None:
    error = LinkLostError("Gone.", maybe_executed=True, hint="Again.", path="sim:x")
    assert isinstance(error, ChipcashError)
    assert error.as_dict() == {
        "error": "LinkLostError",
        "message": "Gone.",
        "hint": "Again.",
        "exit_code": 6,
        "facts": {"maybe_executed": True, "path": "sim:x"},
    }


def test_apdus_as_t0_transmits_them() -> None:
    assert t0_command(b"\x00\xca\x01\x00") == b"\x00\xca\x01\x00\x00"
    assert t0_command(b"\x00\xca\x01\x00\x00") == b"\x00\xca\x01\x00\x00"
    assert t0_command(b"\x00\xa4\x04\x00\x02ab") == b"\x00\xa4\x04\x00\x02ab"
    assert t0_command(b"\x00\xa4\x04\x00\x02ab\x00") == b"\x00\xa4\x04\x00\x02ab"
    extended = b"\x00\xa4\x04\x00\x00\x00\x02ab\x00\x00"
    assert t0_command(extended) == extended


def test_contactless_atr() -> None:
    assert is_contactless(bytes.fromhex("3b8e80014a434f503431563232318051"[:8]))
    assert not is_contactless(bytes.fromhex("3b800181"))
    assert not is_contactless(b"")


def test_no_pin_in_the_log() -> None:
    change = b"\x00\x24\x00\x80\x0812345678"
    assert printable(change) == "00240080 [9 bytes not logged]"
    assert printable(b"\x00\xca\x01\x00\x00") == "00ca010000"


def test_doctor_says_a_fix_for_each_failure() -> None:
    found = doctor.checks()
    names = [check.name for check in found]
    assert len(names) == len(set(names))
    for expected in ("python", "package pyscard", "openssl", "pcscd", "kernel modules", "vpcd"):
        assert expected in names
    for check in found:
        assert check.detail
        assert bool(check.fix) == (not check.ok), check
    assert next(check for check in found if check.name == "private pcscd").ok


def test_doctor_finds_modules_that_grab_readers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    modules = (
        "pn533_usb 20480 0 - Live 0x0\npn533 45056 1 pn533_usb, Live 0x0\nusbcore 1 0 - Live\n"
    )
    monkeypatch.setattr(Path, "read_text", lambda self: modules)
    check = doctor._kernel_modules()
    assert not check.ok and "pn533_usb, pn533" in check.detail
    assert check.fix.startswith("sudo modprobe -r pn533_usb pn533; ")
