# SPDX-License-Identifier: Apache-2.0
"""Update files on the host, and cards that take none."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from chipcash.card import Card
from chipcash.cli import root
from chipcash.crypto import PrivateKey, verify
from chipcash.firmware import MANIFEST, Update, UpdateError, build_id, make_update
from chipcash.transports import open_path
from chipcash.transports.base import BaseConnection
from chipcash_wire import commands as c
from tests.builders import SUITES, network
from tests.cards import PIN, make_card

FILES = {"main.py": b"x" * 700, MANIFEST: b"{}", "a/b.mpy": b""}


@pytest.fixture(params=SUITES)
def publisher(request: pytest.FixtureRequest) -> PrivateKey:
    return PrivateKey.generate(request.param)


def test_a_file_and_what_is_damaged(tmp_path: Path, publisher: PrivateKey) -> None:
    path = tmp_path / "image.ccf"
    data = make_update(FILES, "pico2w-ic-card", "1.0", 3, publisher)
    path.write_bytes(data)
    found = Update.load(path)
    assert found.build == f"1.0+{build_id(b'{}')}" and found.target == "pico2w-ic-card"
    head = found.head
    assert verify(publisher.suite.id, publisher.public, head.message(), head.signature)
    for bad in (data[:-1], data + b"x", data[:-1] + b"?"):
        path.write_bytes(bad)
        with pytest.raises(UpdateError, match="is damaged"):
            Update.load(path)
    for bad in (b"", b"hello", data[:90], b"\xe2" + data[1:]):
        path.write_bytes(bad)
        with pytest.raises(UpdateError, match="is no firmware update"):
            Update.load(path)


class Answers(BaseConnection):
    """A card that takes everything, but for the last step of an update, which it answers with sw."""

    def __init__(self, sw: int) -> None:
        super().__init__("sim:answers", over_air=False)
        self.sw = sw

    def _transceive(self, apdu: bytes) -> bytes:
        last = apdu[1:3] == bytes((c.INS_UPDATE_FIRMWARE, c.UPDATE_FINISH))
        return (self.sw if last else c.SW_OK).to_bytes(2, "big")

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("sw", "known"), [(c.SW_MEMORY, False), (c.SW_SIGNATURE, True), (c.SW_CONDITIONS, True)]
)
def test_which_firmware_starts_next_is_told_only_where_it_is_known(
    tmp_path: Path, publisher: PrivateKey, sw: int, known: bool
) -> None:
    path = tmp_path / "image.ccf"
    path.write_bytes(make_update(FILES, "pico2w-ic-card", "1.0", 3, publisher))
    with pytest.raises(UpdateError) as caught:
        Update.load(path).send(Card(Answers(sw)), lambda *_: None)
    assert ("Its firmware is what it was." in caught.value.message) == known
    assert ("is not known" in caught.value.message) != known


def test_an_emulated_card_takes_none(tmp_path: Path, publisher: PrivateKey) -> None:
    net = network("p256")
    make_card(tmp_path / "card.img", net)
    path = tmp_path / "image.ccf"
    path.write_bytes(make_update(FILES, "unix-card", "1.0", 3, publisher))
    with open_path(f"sim:{tmp_path / 'card.img'}") as connection:
        card = Card(connection)
        card.select()
        with pytest.raises(UpdateError, match="takes no updates: it is emulated"):
            Update.load(path).send(card, lambda *_: None)
    words = ["card", "update", str(path), f"sim:{tmp_path / 'card.img'}", "--pin"]
    done = CliRunner().invoke(root, words, env={"CHIPCASH_PIN": PIN})
    assert done.exit_code == 43 and "Its firmware is what it was." in done.stderr
    path.write_bytes(b"hello")
    done = CliRunner().invoke(root, words, env={"CHIPCASH_PIN": PIN})
    assert done.exit_code == 43 and "is no firmware update" in done.stderr
