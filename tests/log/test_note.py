# SPDX-License-Identifier: Apache-2.0
"""Signed notes: those of other implementations are read and written, and what is not trusted is refused."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from chipcash.log import note
from chipcash.log.errors import LogError, LogInvalid
from chipcash.log.note import COSIGNATURE, SIGNATURE, Checkpoint, Key, SigningKey

# From golang.org/x/mod, sumdb/note (BSD-3-Clause): its documentation and its tests.
PETER_SECRET = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
ENOCH = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"
TEXT = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
)
BY_PETER = (
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqf"
    "qdngotpRZb6KE6RyyBwJnAM=\n"
)
BY_ENOCH = (
    "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTG"
    "wnWLox33WWd1RvMc+QQ=\n"
)
# From transparency-dev/formats (Apache-2.0), note/note_cosigv1_test.go.
WITNESS = "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2"

LOG = SigningKey("log.example", SIGNATURE, bytes(range(32)))
BANK = SigningKey("bank.example/witness", COSIGNATURE, bytes(range(1, 33)))
STATE = Checkpoint("log.example", 7, bytes(range(32)))


def signed(text: str, *lines: str) -> bytes:
    return (text + "\n" + "".join(lines)).encode()


def test_a_note_of_another_implementation() -> None:
    found = note.open_note(signed(TEXT, BY_PETER, BY_ENOCH), [Key.parse(PETER), Key.parse(ENOCH)])
    assert found.text == TEXT
    assert [each.key.name for each in found.signatures] == ["PeterNeumann", "EnochRoot"]
    one = note.open_note(signed(TEXT, BY_PETER, BY_ENOCH), [Key.parse(ENOCH)])
    assert [each.key.name for each in one.signatures] == ["EnochRoot"]


def test_the_example_of_the_specification() -> None:
    """From C2SP signed-note (CC BY 4.0)."""
    key = Key.parse("example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k")
    line = (
        "— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXm"
        "RKuwHjG1Yu72IneyaQM=\n"
    )
    found = note.open_note(signed("This is an example message.\n", line), [key])
    assert found.by(key) is not None


def test_the_same_note_by_the_same_key(tmp_path: Path) -> None:
    path = tmp_path / "peter"
    path.write_text(PETER_SECRET + "\n")
    key = SigningKey.load(path, SIGNATURE)
    assert str(key.key) == PETER
    assert key.sign(TEXT) == BY_PETER
    again = tmp_path / "again"
    key.save(again)
    assert again.read_text() == path.read_text()
    assert again.stat().st_mode & 0o777 == 0o600
    assert "AYEKFALV" not in repr(key)
    with pytest.raises(LogError, match="never overwritten"):
        key.save(again)
    with pytest.raises(LogError, match="no witness's key"):
        SigningKey.load(again, COSIGNATURE)


@pytest.mark.parametrize("text", [PETER, ENOCH, WITNESS])
def test_key_strings(text: str) -> None:
    key = Key.parse(text + "\n")
    assert str(key) == text
    assert key.kind == (COSIGNATURE if text is WITNESS else SIGNATURE)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "PeterNeumann",
        PETER.replace("c74f20a3", "c74f20a4"),
        PETER.replace("Peter", "Petra"),
        PETER.replace("Peter", "Peter "),
        PETER[:-1],
        PETER[:-4],
        PETER + "AAAA",
        ENOCH.replace("+AT", "+BT"),
        "rekor.sigstore.dev+12345678+AwEB",
    ],
)
def test_bad_key_strings(text: str) -> None:
    with pytest.raises(LogError):
        Key.parse(text)


def test_what_a_witness_signs() -> None:
    """cosignature/v1, put together here from the words of tlog-cosignature."""
    dash, name, coded = BANK.sign(STATE.text, 1679315147).split()
    data = base64.b64decode(coded)
    public = BANK.key.public
    ident = hashlib.sha256(b"bank.example/witness\n\x04" + public).digest()[:4]
    assert (dash, name, data[:4]) == ("—", "bank.example/witness", ident)
    assert int.from_bytes(data[4:12], "big") == 1679315147
    body = f"log.example\n7\n{base64.b64encode(bytes(range(32))).decode()}\n"
    message = b"cosignature/v1\ntime 1679315147\n" + body.encode()
    Ed25519PublicKey.from_public_bytes(public).verify(data[12:], message)


def test_a_cosigned_checkpoint() -> None:
    data = STATE.signed([LOG.sign(STATE.text), BANK.sign(STATE.text, 5)])
    found, cosigned = note.open_checkpoint(data, LOG.key, [BANK.key])
    assert found == STATE
    assert [(each.key, each.time) for each in cosigned] == [(BANK.key, 5)]
    assert note.open_checkpoint(data, LOG.key) == (STATE, ())
    more = Checkpoint.parse(STATE.text + "a line of a later version\n")
    found, _ = note.open_checkpoint(more.signed([LOG.sign(more.text)]), LOG.key)
    assert (found.size, found.root) == (7, STATE.root)


def test_only_the_log_makes_checkpoints() -> None:
    other = SigningKey("log.example", SIGNATURE, bytes(32))
    as_witness = SigningKey("log.example", COSIGNATURE, bytes(range(32)))
    for lines in (
        [other.sign(STATE.text)],
        [BANK.sign(STATE.text, 5)],
        [as_witness.sign(STATE.text)],
    ):
        with pytest.raises(LogInvalid, match="not signed by the log"):
            note.open_checkpoint(STATE.signed(lines), LOG.key, [BANK.key])
    elsewhere = Checkpoint("other.example", 7, STATE.root)
    with pytest.raises(LogInvalid, match="is of other.example"):
        note.open_checkpoint(elsewhere.signed([LOG.sign(elsewhere.text)]), LOG.key)


def test_a_bad_signature_of_a_known_key_spoils_all() -> None:
    good, other = LOG.sign(STATE.text), BANK.sign("something else\n", 5)
    with pytest.raises(LogInvalid, match="bank.example/witness is not good"):
        note.open_checkpoint(STATE.signed([good, other]), LOG.key, [BANK.key])
    assert note.open_checkpoint(STATE.signed([good, other]), LOG.key)[0] == STATE


@pytest.mark.parametrize(
    "text",
    [
        "log.example\n7\n",
        "log.example\n07\n" + base64.b64encode(bytes(32)).decode() + "\n",
        "log.example\n-7\n" + base64.b64encode(bytes(32)).decode() + "\n",
        "log.example\n7\n" + base64.b64encode(bytes(31)).decode() + "\n",
        "log.example\n0\n" + base64.b64encode(bytes(32)).decode() + "\n",
        "log.example\n7\n" + base64.b64encode(bytes(32)).decode().rstrip("=") + "\n",
        "\n7\n" + base64.b64encode(bytes(32)).decode() + "\n",
    ],
)
def test_no_checkpoint(text: str) -> None:
    with pytest.raises(LogInvalid):
        Checkpoint.parse(text)


def test_notes_that_are_none() -> None:
    good = STATE.signed([LOG.sign(STATE.text)])
    for data in (
        b"", b"\n\n", STATE.text.encode(), STATE.text.encode() + b"\n", good[:-1], good + b"\n",
        good.replace("—".encode(), b"-"), good.replace(b"log.example\n7", b"log.example\r\n7"),
        good.replace(b"\n7\n", b"\n8\n"), good + b"\xff", good * 2000,
    ):  # fmt: skip
        with pytest.raises(LogInvalid):
            note.open_checkpoint(data, LOG.key)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_one_changed_byte_is_never_trusted(draw: st.DataObject) -> None:
    good = STATE.signed([LOG.sign(STATE.text), BANK.sign(STATE.text, 5)])
    at = draw.draw(st.integers(0, len(good) - 1))
    spoilt = good[:at] + bytes((good[at] ^ draw.draw(st.integers(1, 255)),)) + good[at + 1 :]
    try:
        found, cosigned = note.open_checkpoint(spoilt, LOG.key, [BANK.key])
    except LogInvalid:
        return
    # What is left is a note in which one of the two names a key that nobody knows: the witness's.
    assert found == STATE
    assert cosigned == ()


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([LOG, BANK]), st.binary(max_size=90))
def test_signatures_of_any_bytes(signer: SigningKey, signature: bytes) -> None:
    coded = base64.b64encode(signer.key.key_id + signature).decode()
    data = signed(STATE.text, LOG.sign(STATE.text), f"— {signer.key.name} {coded}\n")
    with pytest.raises(LogInvalid):
        note.open_checkpoint(data, LOG.key, [BANK.key])


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_any_bytes(data: bytes) -> None:
    for each in (data, data + b"\n\n" + LOG.sign(STATE.text).encode()):
        with pytest.raises(LogInvalid):
            note.open_checkpoint(each, LOG.key, [BANK.key])
