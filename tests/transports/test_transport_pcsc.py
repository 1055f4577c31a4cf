# SPDX-License-Identifier: Apache-2.0
"""Runs each module of pcsc/ in a private pcscd session, and tests the sessions themselves.

Nothing here skips: where no session can run, the tests fail and say why.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from chipcash_sim import pcscd

INNER = Path(__file__).parent / "pcsc"
SESSION = [sys.executable, "-m", "chipcash_sim.pcscd"]


@pytest.fixture(autouse=True)
def possible() -> None:
    reason = pcscd.available()
    if reason is not None:
        pytest.fail(reason, pytrace=False)


def run(*command: str, readers: int = 1) -> "subprocess.CompletedProcess[str]":
    argv = [*SESSION, "--readers", str(readers), "--", *command]
    return subprocess.run(argv, capture_output=True, text=True, timeout=280, check=False)


@pytest.mark.parametrize("module", sorted(path.name for path in INNER.glob("test_*.py")))
def test_inside(module: str) -> None:
    _inside(module, "not long")


@pytest.mark.long
def test_inside_at_length() -> None:
    _inside("test_ccid_loss_inside.py", "long")


def _inside(module: str, marked: str) -> None:
    pytest_inside = [sys.executable, "-m", "pytest", "-q", "-rP", "-p", "no:cacheprovider"]
    # What schemathesis has for pytest takes as long to load as all the rest.
    pytest_inside += ["-p", "no:schemathesis", "-m", marked, "-o", "addopts="]
    result = run(*pytest_inside, str(INNER / module), readers=2)
    print(result.stdout, result.stderr)
    if result.returncode:
        pytest.fail(f"{module} failed inside its session:\n{result.stdout}", pytrace=False)


def test_exit_code_of_the_command() -> None:
    assert run("sh", "-c", "exit 7").returncode == 7
    assert run("sh", "-c", "kill -TERM $$").returncode == 128 + signal.SIGTERM
    assert run("chipcash-has-no-such-program").returncode == 127


def test_signals_reach_the_command() -> None:
    script = 'trap "echo bye; exit 3" TERM; echo ready; while :; do sleep 0.05; done'
    with subprocess.Popen(
        [*SESSION, "--", "sh", "-c", script], stdout=subprocess.PIPE, text=True
    ) as session:
        assert session.stdout is not None
        assert session.stdout.readline() == "ready\n"
        session.terminate()
        assert session.stdout.read() == "bye\n"
    assert session.returncode == 3


def test_pcscd_ends_with_its_session() -> None:
    daemon = int(run("cat", "/run/pcscd/pcscd.pid").stdout.rstrip("\n\0"))
    assert not Path(f"/proc/{daemon}").exists()


def test_two_sessions_side_by_side() -> None:
    """Both use the same paths and ports at the same time, and see their own readers only."""
    show = (
        "import sys; from chipcash.transports.pcsc import readers; print(len(readers()), flush=1)"
    )
    inside = [sys.executable, "-c", f"{show}; sys.stdin.read(); {show}"]
    sessions = [
        subprocess.Popen(
            [*SESSION, "--readers", str(n), "--", *inside],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in (1, 3)
    ]
    try:
        for session, slots in zip(sessions, ("2\n", "6\n"), strict=True):  # vpcd: two slots each
            assert session.stdout is not None
            assert session.stdout.readline() == slots
        for session, slots in zip(sessions, ("2\n", "6\n"), strict=True):
            assert session.communicate(timeout=120)[0] == slots
            assert session.returncode == 0
    finally:
        for session in sessions:
            session.kill()
            session.wait()


def test_ensure_runs_the_program_again_inside(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import sys\n"
        "from chipcash_sim.pcscd import ensure_private_pcscd\n"
        "session = ensure_private_pcscd(2)\n"
        "print(session.readers, sys.argv[1:])\n"
    )
    result = subprocess.run(
        [sys.executable, str(program), "a b", "-c"], capture_output=True, text=True, check=True
    )
    assert result.stdout == "('chipcash 1 00 00', 'chipcash 2 00 00') ['a b', '-c']\n"


def test_reason_for_people_without_pcscd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pcscd, "_program", lambda name: None)
    assert pcscd.available() == "pcscd is not installed. Run: sudo apt-get install pcscd"


def test_reason_for_people_without_namespaces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pcscd, "_unshare", lambda: [sys.executable, "-c", "raise SystemExit('no')"])
    reason = pcscd.available()
    assert reason is not None and "(no)" in reason and "CAP_SYS_ADMIN" in reason


def test_no_session_outside() -> None:
    assert pcscd.PORTS_VARIABLE not in os.environ
    assert pcscd.current() is None
