# SPDX-License-Identifier: Apache-2.0
"""A till's keys in files, in the operating system's key store, in a PKCS#11 token: all three are real."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.backends import SecretService

from chipcash.crypto import CryptoError, verify
from chipcash.pos import Pos, PosError, keys
from tests.pos.key_stores import MODULE, PIN, TOKEN, key_store, make_token
from tests.pos.shop import Crash, Shop, a_day, crash_at


@pytest.fixture(scope="module", autouse=True)
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with key_store(tmp_path_factory.mktemp("store")), pytest.MonkeyPatch.context() as patch:
        for name, value in make_token(tmp_path_factory.mktemp("token")).items():
            patch.setenv(name, value)
        yield


CUSTODIES = ["file", "keyring", TOKEN]


@pytest.mark.parametrize("custody", CUSTODIES, ids=["file", "keyring", "pkcs11"])
def test_a_day_at_a_till_whose_keys_are_there(tmp_path: Path, custody: str) -> None:
    shop = Shop(tmp_path, custody=custody)
    a_day(shop, shop.crash)
    assert verify(shop.pos.key.suite.id, shop.pos.public, b"message", shop.pos.key.sign(b"message"))
    shop.close()


@pytest.mark.parametrize("custody", ["keyring", TOKEN], ids=["keyring", "pkcs11"])
def test_no_secret_is_in_the_tills_directory(tmp_path: Path, custody: str) -> None:
    shop = Shop(tmp_path, custody=custody)
    pos = shop.pos
    kept = keys.custody_of(pos.directory)
    books_key = kept.books_key()
    assert books_key is not None
    secrets = [books_key, books_key.hex().encode(), PIN.encode()]
    if (key := kept.export()) is not None:
        secrets += [key.private_bytes(), key.private_bytes().hex().encode()]
    for file in pos.directory.iterdir():
        assert not any(secret in file.read_bytes() for secret in secrets), file
    assert not (pos.directory / "pos.key").exists()
    shop.close()


def test_a_tokens_key_cannot_leave_it(tmp_path: Path) -> None:
    from pkcs11 import Attribute

    shop = Shop(tmp_path, custody=TOKEN)
    assert shop.pos.key.public[0] in (2, 3)
    kept = keys.custody_of(shop.pos.directory)
    assert kept.export() is None
    key = kept.find("PRIVATE_KEY")  # type: ignore[attr-defined]
    assert key[Attribute.NEVER_EXTRACTABLE]
    assert key[Attribute.SENSITIVE]
    assert key[Attribute.LOCAL]
    shop.close()


def test_two_tills_share_a_token_and_a_key_store(tmp_path: Path) -> None:
    publics = set()
    for n, custody in enumerate(("keyring", "keyring", TOKEN, TOKEN)):
        (tmp_path / str(n)).mkdir()
        shop = Shop(tmp_path / str(n), custody=custody)
        publics.add(shop.pos.public)
        shop.crash()
        assert shop.pos.public in publics
        shop.close()
    assert len(publics) == 4


def test_a_key_without_its_books_gets_no_new_ones(tmp_path: Path) -> None:
    shop = Shop(tmp_path, custody=TOKEN)
    folder = shop.pos.directory
    shop.crash()
    (folder / "pos.db").unlink()
    with pytest.raises(PosError, match="not its books"):
        Pos.init(folder, shop.net.trust, "http://center.test", custody=TOKEN)
    # Nor in another folder that names the same key.
    path = keys.custody_of(folder).path
    with pytest.raises(PosError, match="not its books"):
        Pos.init(tmp_path / "another", shop.net.trust, "http://center.test", custody=path)
    shop.close()


@pytest.mark.parametrize("custody", ["keyring", TOKEN], ids=["keyring", "pkcs11"])
def test_init_that_was_cut_off_goes_on_where_it_began(tmp_path: Path, custody: str) -> None:
    """With a key of the same name, so that nothing is left over in the store."""
    shop = Shop(tmp_path)
    paths = set()
    for n in range(0, 60, 7):
        folder = tmp_path / f"till{n}"
        try:
            with crash_at(n, after=True):
                Pos.init(folder, shop.net.trust, "http://center.test", custody=custody).close()
        except Crash:
            if (folder / "pos.db").exists():
                continue
            first = keys.custody_of(folder).path
            Pos.init(folder, shop.net.trust, "http://center.test", custody=custody).close()
            assert keys.custody_of(folder).path == first
            paths.add(first)
            Pos(folder).close()
    assert len(paths) > 3
    shop.close()


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("safe", "keeps no keys"),
        ("pkcs11:token=till", "has to name the token and its library"),
        (f"{TOKEN}&pin-value=1234", "does not belong"),
        (f"pkcs11:token=till;slot-id=3?module-path={MODULE}", "slot-id"),
        (f"pkcs11:token=none?module-path={MODULE}", "is not there"),
        ("pkcs11:token=till?module-path=/no/library.so", "failed"),
        (f"{TOKEN}&pin-source=file:/no/pin", "cannot be read"),
    ],
)
def test_what_is_wrong_with_a_custody_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, words: str
) -> None:
    shop = Shop(tmp_path)
    if "pin-source" in path:
        monkeypatch.delenv(keys.PIN_VARIABLE)
        monkeypatch.setattr(keys, "_sessions", {})
    with pytest.raises(CryptoError, match=words) as caught:
        Pos.init(tmp_path / "till", shop.net.trust, "http://center.test", custody=path)
    assert PIN not in str(caught.value)
    assert not (tmp_path / "till" / "pos.db").exists()
    shop.close()


def test_a_gm_till_cannot_have_its_key_in_a_token(tmp_path: Path) -> None:
    shop = Shop(tmp_path, "gm")
    with pytest.raises(CryptoError, match="PKCS#11 has no signatures of suite gm"):
        Pos.init(tmp_path / "till", shop.net.trust, "http://center.test", custody=TOKEN)
    # What was begun there is in nobody's way.
    Pos.init(tmp_path / "till", shop.net.trust, "http://center.test", custody="keyring").close()
    shop.close()


_OPEN = "import sys; from chipcash.pos import Pos; print(Pos(sys.argv[1]).public.hex())"


@pytest.mark.parametrize(
    ("pin", "words"),
    [(PIN, ""), ("111111", "refused the PIN"), ("", "wants its PIN")],
    ids=["right", "wrong", "none"],
)
def test_the_pin_opens_the_token(tmp_path: Path, pin: str, words: str) -> None:
    shop = Shop(tmp_path, custody=TOKEN)
    # In a process of its own: this one has logged in already.
    done = subprocess.run(
        [sys.executable, "-c", _OPEN, shop.pos.directory],
        env={**os.environ, keys.PIN_VARIABLE: pin},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode == 0) == (not words)
    assert words in done.stderr
    if not words:
        assert done.stdout.strip() == shop.pos.public.hex()
    elif pin:
        assert pin not in done.stderr
    shop.close()


def test_the_pin_may_be_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "pin").write_text(f"{PIN}\n")
    shop = Shop(tmp_path, custody=f"{TOKEN}&pin-source=file:{tmp_path}/pin")
    environment = {name: value for name, value in os.environ.items() if name != keys.PIN_VARIABLE}
    done = subprocess.run(
        [sys.executable, "-c", _OPEN, shop.pos.directory], env=environment, check=False
    )
    assert done.returncode == 0
    shop.close()


class _InTheClear(KeyringBackend):  # type: ignore[misc]
    """As packages of others bring them: it is there in all of these tests, and before the others."""

    priority = 9

    def get_password(self, service: str, username: str) -> str:
        raise AssertionError("asked for a secret")

    set_password = delete_password = get_password  # type: ignore[assignment]


def test_without_a_key_store_a_till_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Shop(tmp_path, custody="keyring")
    folder = shop.pos.directory
    shop.crash()
    from keyring.backends import fail

    store = keyring.get_keyring()
    for other in (fail.Keyring(), _InTheClear()):
        keyring.set_keyring(other)
        with pytest.raises(CryptoError, match="no key store"):
            Pos(folder)
    keyring.set_keyring(store)
    name = keys.custody_of(folder).path.partition(":")[2]
    SecretService.Keyring().delete_password("chipcash", f"{name} books")
    with pytest.raises(PosError, match="key of the books"):
        Pos(folder)
    SecretService.Keyring().delete_password("chipcash", f"{name} key")
    with pytest.raises(PosError, match="key of the till"):
        Pos(folder)
    shop.close()
