# SPDX-License-Identifier: Apache-2.0
"""The documents say what is so: commands in them run, imports in them work, links lead somewhere."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import prefork
from tests.center.pg_server import Server

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    file
    for file in sorted(ROOT.rglob("*.md"))
    if not {".venv", "build"}.intersection(file.relative_to(ROOT).parts)
    and not any(part.startswith(".") for part in file.relative_to(ROOT).parts)
]
STARTED = ("docs/staff.md", "docs/verification.md")
"""Documents whose commands are the program that is installed; those of the others are forked (prefork)."""


def name(file: Path) -> str:
    return str(file.relative_to(ROOT))


def blocks(file: Path, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", file.read_text(), re.MULTILINE | re.DOTALL)


def having(language: str) -> list[Path]:
    return [file for file in DOCUMENTS if blocks(file, language)]


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the card is compiled to."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def databases(file: Path) -> Iterator[dict[str, str]]:
    """Two empty PostgreSQL databases, for the document that says so."""
    if "$NODE_A" not in file.read_text():
        yield {}
        return
    server = Server()
    try:
        yield {"NODE_A": server.database("a"), "NODE_B": server.database("b")}
    finally:
        server.close()


@pytest.mark.parametrize("file", having("sh"), ids=name)
def test_commands(file: Path, databases: dict[str, str], cache: Path, tmp_path: Path) -> None:
    """All of a document's commands, one after the other in an empty folder.

    They run on a loopback of their own, so that ports are free. make only tells what it would run:
    its targets are what runs this test, and test_demo.py and bench/ run the others.
    """
    script = re.sub(r"^make ", f"make -n -C '{ROOT}' ", "\n".join(blocks(file, "sh")), flags=re.M)
    bin_folder = Path(sys.executable).parent
    chipcash = "" if name(file) in STARTED else f"{prefork.on_path()}:"
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "chipcash_sim.pcscd",
            "--",
            "bash",
            "-euo",
            "pipefail",
            "-c",
            script,
        ],
        cwd=tmp_path,
        env={
            "PATH": f"{chipcash}{bin_folder}:/usr/bin:/bin",
            "HOME": str(tmp_path),
            "LANG": "C.UTF-8",
            "XDG_CACHE_HOME": str(cache),  # else each of them compiles the card anew
            "PYTEST_ADDOPTS": "-p no:schemathesis",  # not needed there, and slow to load
            "PROTOCOLS": str(ROOT / "protocols"),
            "DOCS": str(ROOT / "docs"),
            **databases,
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, f"{script}\n---\n{done.stdout}"


@pytest.mark.parametrize("file", having("python"), ids=name)
def test_python(file: Path) -> None:
    """Examples compile, and what they import is there."""
    for block in blocks(file, "python"):
        tree = ast.parse(block)
        imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        exec(compile(ast.Module(imports, []), name(file), "exec"), {})


@pytest.mark.parametrize("file", DOCUMENTS, ids=name)
def test_links(file: Path) -> None:
    """Links within the project lead to what is there."""
    text = re.sub(r"^```.*?^```$", "", file.read_text(), flags=re.MULTILINE | re.DOTALL)
    pictures = re.findall(r'<img [^>]*src="([^"]+)"', text)
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text) + pictures:
        if "://" not in target:
            assert (file.parent / target).exists(), target


def test_every_make_target_is_listed() -> None:
    """`make` alone lists each target that there is."""
    listed = subprocess.run(
        ["make", "-s"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert targets is not None
    for target in targets[1].split():
        assert f"make {target}" in listed
