# SPDX-License-Identifier: Apache-2.0
"""Witnesses over HTTP: what they cosign, refuse and remember, and that nobody waits for them."""

from __future__ import annotations

import base64
import logging
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import httpx
import pytest

from chipcash import files
from chipcash.log.cosigning import Witness as Asked
from chipcash.log.cosigning import Witnesses, parse_witness
from chipcash.log.errors import LogError, LogInvalid
from chipcash.log.merkle import EMPTY
from chipcash.log.note import COSIGNATURE, SIGNATURE, Checkpoint, Key, SigningKey, open_checkpoint
from chipcash.log.publisher import Publisher
from chipcash.log.reader import Folder, LogReader
from chipcash.log.store import Log
from chipcash.log.witness import State, Witness, WitnessService
from tests.log.killing import KEY, Ledger

NOW = 1_800_000_000


def key(name: str) -> SigningKey:
    return SigningKey(f"{name}.example/witness", COSIGNATURE, name.encode().ljust(32))


@contextmanager
def witness(path: Path, name: str = "bank", logs: tuple[Key, ...] = (KEY.key,)) -> Iterator[Asked]:
    """A witness that remembers in path."""
    if not path.exists():
        State.create(path)
    with closing(State(path)) as state:
        service = WitnessService(Witness(key(name), logs, state, lambda: NOW))
        with service:
            yield Asked(key(name).key, service.url)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    with Log.create(tmp_path / "public", tmp_path / "entries", KEY) as log:
        yield log


def body(old: int, proof: list[bytes], note: bytes) -> bytes:
    """A request, put together here from the words of tlog-witness."""
    lines = [f"old {old}\n", *(base64.b64encode(step).decode() + "\n" for step in proof), "\n"]
    return "".join(lines).encode() + note


def ask(asked: Asked, data: bytes) -> httpx.Response:
    return httpx.post(asked.url + "/add-checkpoint", content=data)


def grown(log: Log, size: int) -> bytes:
    Publisher(log, Ledger(size)).publish()
    return log.published()


def test_the_protocol_step_by_step(log: Log, tmp_path: Path) -> None:
    with witness(tmp_path / "state") as asked:
        three = grown(log, 3)
        answer = ask(asked, body(0, [], three))
        assert answer.status_code == 200
        checkpoint, cosigned = open_checkpoint(three + answer.content, KEY.key, [asked.key])
        assert [(x.key, x.time) for x in cosigned] == [(asked.key, NOW)]
        assert ask(asked, body(3, [], three)).content == answer.content  # the same again

        seven = grown(log, 7)
        for old in (0, 2):
            conflict = ask(asked, body(old, log.consistency(old), seven))
            assert (conflict.status_code, conflict.text) == (409, "3\n")
            assert conflict.headers["content-type"].split(";")[0] == "text/x.tlog.size"
        assert ask(asked, body(3, log.consistency(3)[:-1], seven)).status_code == 422
        assert ask(asked, body(3, [bytes(32)] * 3, seven)).status_code == 422
        assert ask(asked, body(8, [], seven)).status_code == 400
        assert ask(asked, body(3, log.consistency(3), seven)).status_code == 200
        # What was refused has not been forgotten, and what was cosigned is not taken back.
        back = ask(asked, body(3, [], three))
        assert (back.status_code, back.text) == (409, "7\n")
        assert checkpoint.size == 3


def test_what_is_no_request(log: Log, tmp_path: Path) -> None:
    note = grown(log, 3)
    step = base64.b64encode(bytes(32)) + b"\n"
    with witness(tmp_path / "state") as asked:
        for data in (
            b"", b"old 0", b"old 0\n", note, b"old 00\n\n" + note, b"old -1\n\n" + note,
            b"old 0\nxx\n\n" + note, b"old 0\n" + step[5:] + b"\n" + note,
            b"old 0\n" + 64 * step + b"\n" + note, b"new 0\n\n" + note,
        ):  # fmt: skip
            assert ask(asked, data).status_code == 400, data[:20]
        assert ask(asked, b"old 0\n" + step + b"\n" + note).status_code == 422
        assert ask(asked, body(0, [], bytes(1 << 20))).status_code == 413
        assert httpx.get(asked.url + "/add-checkpoint").status_code == 405
        assert httpx.get(asked.url + "/").status_code == 404
        assert ask(asked, body(0, [], note)).status_code == 200


def test_only_its_logs_and_only_with_their_signature(log: Log, tmp_path: Path) -> None:
    note = grown(log, 3)
    other = SigningKey("other.example", SIGNATURE, bytes(32))
    elsewhere = Checkpoint("other.example", 3, bytes(32))
    impostor = SigningKey(KEY.key.name, SIGNATURE, bytes(range(32)))
    same = Checkpoint.parse(note.split(b"\n\n")[0].decode() + "\n")
    with witness(tmp_path / "state") as asked:
        unknown = elsewhere.signed([other.sign(elsewhere.text)])
        assert ask(asked, body(0, [], unknown)).status_code == 404
        assert ask(asked, body(0, [], same.signed([impostor.sign(same.text)]))).status_code == 403
        assert ask(asked, body(0, [], note.replace(b"\n3\n", b"\n4\n"))).status_code == 403
        assert ask(asked, body(0, [], note)).status_code == 200
    with witness(tmp_path / "two", logs=(KEY.key, other.key)) as asked:
        assert ask(asked, body(0, [], unknown)).status_code == 200
        assert ask(asked, body(0, [], note)).status_code == 200
    with (
        pytest.raises(LogError, match="same name"),
        witness(tmp_path / "state", logs=(KEY.key,) * 2),
    ):
        pass


def test_a_fork_is_refused_and_told(
    log: Log, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    grown(log, 3)
    three, forked = log.checkpoint(), Checkpoint(KEY.key.name, 3, bytes(32))
    with witness(tmp_path / "state") as asked:
        assert ask(asked, body(0, [], log.published())).status_code == 200
        answer = ask(asked, body(3, [], forked.signed([KEY.sign(forked.text)])))
        assert answer.status_code == 409
        assert "fork" in answer.text
    # Both heads, which the log has signed, are in the witness's own log.
    told = caplog.records[-1].getMessage()
    for checkpoint in (three, forked):
        assert base64.b64encode(checkpoint.root).decode() in told
    assert caplog.records[-1].levelno == logging.ERROR


def test_it_remembers_after_it_was_ended(log: Log, tmp_path: Path) -> None:
    with witness(tmp_path / "state") as asked:
        assert ask(asked, body(0, [], grown(log, 3))).status_code == 200
    with witness(tmp_path / "state") as asked:
        answer = ask(asked, body(0, [], grown(log, 7)))
        assert (answer.status_code, answer.text) == (409, "3\n")


def test_nothing_is_cosigned_that_could_not_be_kept(
    log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes, mode: int = 0) -> None:
        raise OSError(28, "No space left on device")

    with witness(tmp_path / "state") as asked:
        note = grown(log, 3)
        with monkeypatch.context() as patch:
            patch.setattr(files, "replace", full)
            answer = ask(asked, body(0, [], note))
        assert answer.status_code == 500
        assert "—" not in answer.text
        assert ask(asked, body(0, [], note)).status_code == 200


def test_a_memory_is_never_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "state"
    with pytest.raises(LogError, match="nothing was begun"):
        State(path)
    State.create(path)
    with pytest.raises(LogError, match="exists already"):
        State.create(path)
    with closing(State(path)), pytest.raises(LogError, match="Another witness"):
        State(path)
    path.write_text("{}")
    with pytest.raises(LogError, match="damaged"):
        State(path)


# ---- the log's side ---------------------------------------------------------------------------------


def readers(log: Log, quorum: int, *names: str) -> LogReader:
    keys = [key(name).key for name in names]
    return LogReader(KEY.key, Folder(log.public), Folder(log.entries), keys, quorum)


def test_a_quorum(log: Log, tmp_path: Path) -> None:
    with ExitStack() as stack:
        asked = [stack.enter_context(witness(tmp_path / name, name)) for name in ("a", "b", "c")]
        witnesses = stack.enter_context(closing(Witnesses(asked)))
        publisher = Publisher(log, Ledger(3), witnesses)
        publisher.publish()
        checkpoint, cosigned = readers(log, 3, "a", "b", "c").checkpoint()
        assert checkpoint.size == 3
        assert [x.key.name for x in cosigned] == [key(x).key.name for x in ("a", "b", "c")]
        assert witnesses.problems == {}
        for size in (4, 300, 301):
            Publisher(log, Ledger(size), witnesses).publish()
            assert len(readers(log, 3, "a", "b", "c").checkpoint()[1]) == 3
    with pytest.raises(LogInvalid, match="3 of the 4 cosignatures"):
        readers(log, 4, "a", "b", "c", "d").checkpoint()
    assert len(readers(log, 1, "c", "d").checkpoint()[1]) == 1
    with pytest.raises(LogError, match="cannot be"):
        readers(log, 3, "a", "b")
    with pytest.raises(LogError, match="cannot be"):
        readers(log, 1, "a", "a")
    alias = SigningKey("another.example", COSIGNATURE, b"a".ljust(32)).key
    with pytest.raises(LogError, match="cannot be"):
        LogReader(KEY.key, Folder(log.public), witnesses=[key("a").key, alias], quorum=2)


def test_a_log_that_starts_again_finds_out_what_its_witnesses_have(
    log: Log, tmp_path: Path
) -> None:
    with witness(tmp_path / "state") as asked:
        for size in (3, 9, 9, 600):
            with closing(Witnesses([asked])) as witnesses:  # knows no size
                Publisher(log, Ledger(size), witnesses).publish()
            assert readers(log, 1, "bank").checkpoint()[0].size == size


def test_nobody_waits_for_a_witness_that_is_away(log: Log, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, witness(tmp_path / "state") as asked:
        quiet = Asked(key("quiet").key, f"http://127.0.0.1:{silent.getsockname()[1]}")
        gone = Asked(key("gone").key, "http://127.0.0.1:1")
        with closing(Witnesses([quiet, gone, asked], timeout=2)) as witnesses:
            start = time.monotonic()
            Publisher(log, Ledger(3), witnesses).publish()
            assert time.monotonic() - start < 60
            assert [x.key for x in readers(log, 1, "bank").checkpoint()[1]] == [asked.key]
            assert set(witnesses.problems) == {quiet.key.name, gone.key.name}
            silent.accept()[0].close()
            silent.setblocking(False)
            Publisher(log, Ledger(4), witnesses).publish()
            with pytest.raises(BlockingIOError):  # it is left alone for a while
                silent.accept()
            assert readers(log, 1, "bank").checkpoint()[0].size == 4


def test_an_answer_that_never_ends(log: Log) -> None:
    def drip() -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
            try:
                while True:
                    connection.sendall(b"x")
                    time.sleep(0.05)
            except OSError:
                pass

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        slow = Asked(key("slow").key, f"http://127.0.0.1:{server.getsockname()[1]}")
        with closing(Witnesses([slow], timeout=0.2)) as witnesses:
            start = time.monotonic()
            Publisher(log, Ledger(3), witnesses).publish()
            assert time.monotonic() - start < 10
            assert "does not end" in witnesses.problems[slow.key.name]
        thread.join()


def test_late_cosignatures_are_added(log: Log, tmp_path: Path) -> None:
    with witness(tmp_path / "a", "a") as first:
        with closing(Witnesses([first])) as witnesses:
            Publisher(log, Ledger(3), witnesses).publish()
        with (
            witness(tmp_path / "b", "b") as second,
            closing(Witnesses([first, second])) as witnesses,
        ):
            Publisher(log, Ledger(3), witnesses).publish()
            note = log.published()
            assert len(readers(log, 2, "a", "b").checkpoint()[1]) == 2
            Publisher(log, Ledger(3), witnesses).publish()
            assert log.published() == note


def test_a_log_restored_from_an_old_backup_is_told(log: Log, tmp_path: Path) -> None:
    with witness(tmp_path / "state") as asked:
        Publisher(log, Ledger(3)).publish()
        backup = tmp_path / "backup"
        for folder in (log.public, log.entries):
            shutil.copytree(folder, backup / folder.name)
        with closing(Witnesses([asked])) as witnesses:
            Publisher(log, Ledger(7), witnesses).publish()
        for size, told in ((5, "has only 5"), (7, None), (8, None)):
            with (
                Log(backup / "public", backup / "entries", KEY) as old,
                closing(Witnesses([asked])) as witnesses,
            ):
                Publisher(old, Ledger(size), witnesses).publish()
                problem = witnesses.problems.get(asked.key.name)
                assert problem is None if told is None else told in str(problem)


def test_a_forked_log_gets_no_cosignature(log: Log, tmp_path: Path) -> None:
    class Other(Ledger):
        def facts(self, after: int) -> Iterator[tuple[int, bytes]]:
            yield from ((number, entry + b"!") for number, entry in super().facts(after))

    with witness(tmp_path / "state") as asked:
        with closing(Witnesses([asked])) as witnesses:
            Publisher(log, Ledger(7), witnesses).publish()
        place = tmp_path / "fork"
        with Log.create(place / "public", place / "entries", KEY) as fork:
            for size in (7, 9):
                with closing(Witnesses([asked])) as witnesses:
                    Publisher(fork, Other(size), witnesses).publish()
                    assert "fork" in witnesses.problems[asked.key.name]
            with pytest.raises(LogInvalid, match="0 of the 1"):
                readers(fork, 1, "bank").checkpoint()


def test_a_witness_in_words() -> None:
    text = str(key("bank").key)
    asked = parse_witness(f"{text}@https://bank.example/w/")
    assert asked == Asked(key("bank").key, "https://bank.example/w")
    for wrong in (text, f"{text}@bank.example", f"{KEY.key}@https://x", "@https://x"):
        with pytest.raises(LogError):
            parse_witness(wrong)


def test_the_empty_log_is_cosigned_too(log: Log, tmp_path: Path) -> None:
    with witness(tmp_path / "state") as asked:
        assert log.checkpoint().root == EMPTY
        assert ask(asked, body(0, [], log.published())).status_code == 200
        assert ask(asked, body(0, [], grown(log, 3))).status_code == 200
