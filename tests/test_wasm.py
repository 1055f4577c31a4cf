# SPDX-License-Identifier: Apache-2.0
"""tests/portable where integers are as small as on boards: MicroPython's WebAssembly build, run by node.

Its words are of 32 bits and its small integers of 31, as a board's, so what fits one word of the unix build
is a big integer here. It says nothing about memory: its heap grows, and it collects garbage between tests
only.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from chipcash_sim import runtime

_HERE = Path(__file__).parent
_PORTABLE = _HERE / "portable"
_MODULES = sorted(
    file.stem
    for file in _PORTABLE.glob("test_*.py")
    # The one is long, and as many bytes in one go as the heap can grow to; the others need a socket.
    if file.stem not in ("test_fuzz", "test_fuzz_sam", "test_tropic01", "test_tropic01_card")
)
_LONG = ("test_vectors",)
"""Takes as long as all the others; what computes is in theirs too."""
_VECTORS = _HERE.parent / "protocols" / "vectors"
_PACKAGE = Path(
    sys.prefix, "wasm", "node_modules", "@micropython", "micropython-webassembly-pyscript"
)


def _compile(files: list[tuple[str, Path]], folder: Path) -> None:
    """As for a board without viper, so that reading .mpy files is tested too."""
    for name, file in files:
        runtime.compile_file(file.read_bytes(), name, (folder / name).with_suffix(".mpy"), None)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What run.mjs copies into the build's file system."""
    if not _PACKAGE.is_dir() or shutil.which("node") is None:
        pytest.skip("MicroPython's WebAssembly build is not installed. Get it with: make setup")
    tree = tmp_path_factory.mktemp("wasm")
    try:
        _compile(runtime.sources(), tree / "card")
    except runtime.RuntimeMissing as missing:
        pytest.skip(str(missing))
    portable = [file for file in _PORTABLE.glob("*.py") if file.name != "conftest.py"]
    _compile([(file.name, file) for file in portable], tree / "portable")
    return [
        f"/lib/shims={_HERE / 'wasm' / 'lib'}",
        f"/lib/card={tree / 'card'}",
        f"/lib/portable={tree / 'portable'}",
        f"/vectors={_VECTORS}",
    ]


def _run(module: str, folders: list[str]) -> str:
    """Run a module's tests; its output."""
    done = subprocess.run(
        ["node", str(_HERE / "wasm" / "run.mjs"), str(_PACKAGE), module, *folders],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout[-4000:]  # a crash of node shows all of the package
    return done.stdout


@pytest.mark.parametrize(
    "module",
    [pytest.param(x, marks=pytest.mark.long) if x in _LONG else x for x in _MODULES],
)
def test_module(module: str, folders: list[str]) -> None:
    source = (_PORTABLE / f"{module}.py").read_text()
    assert f"passed: {source.count('def test_')}\n" in _run(module, folders)


_SMALL = """import sys

def test_words_are_of_32_bits():
    assert sys.maxsize == 0x7FFFFFFF
    for number, small in ((0x3FFFFFFF, True), (0x40000000, False)):
        assert (number + int("0") is number) == small, number

def test_it_is_noticed():
    assert sys.maxsize > 0x7FFFFFFF

def test_none_comes_after_a_failure():
    print("not reached")
"""


def test_its_integers_are_small_and_a_failure_is_noticed(
    tmp_path: Path, folders: list[str]
) -> None:
    (tmp_path / "test_small.py").write_text(_SMALL)
    with pytest.raises(AssertionError, match="AssertionError"):
        _run("test_small", [f"/lib/more={tmp_path}", *folders])
    (tmp_path / "test_small.py").write_text(_SMALL[: _SMALL.index("def test_it_is")])
    assert "passed: 1\n" in _run("test_small", [f"/lib/more={tmp_path}", *folders])
