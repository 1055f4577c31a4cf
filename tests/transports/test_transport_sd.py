# SPDX-License-Identifier: Apache-2.0
"""`sd:` end to end: a folder, the applet's file, and a card process that answers through it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chipcash.card import Card
from chipcash.errors import LinkLostError, NoCardError, PathError, TransportError
from chipcash.transports import open_path
from chipcash.transports.times import changed
from chipcash_links.sdfile import NAME, REPLY, SIZE, parse, record
from chipcash_sim import emulator, places
from tests.builders import Network
from tests.cards import make_card


@pytest.fixture
def slot(tmp_path: Path) -> Iterator[places.Place]:
    """A slot without a card."""
    made = places.make("sd")
    yield made
    made.close()


@pytest.fixture
def card(tmp_path: Path, slot: places.Place) -> Iterator[emulator.Card]:
    """A personalised card in the slot."""
    image = tmp_path / "a.img"
    make_card(image, Network())
    made = emulator.Card(image, "cpython")
    places.put(made, slot)
    yield made
    made.remove()


def _file(slot: places.Place) -> Path:
    return Path(slot.path.removeprefix("sd:"), NAME)


def test_a_stale_reply_is_no_answer(card: emulator.Card, slot: places.Place) -> None:
    """What lies in the file from before, or is nothing at all, is not taken for the card's word."""
    for content in (record(REPLY, 1, b"\x6f\x00"), b"\xff" * SIZE, b""):
        with open_path(slot.path, wait=5) as opened:
            Card(opened).select()
        with _file(slot).open("r+b") as file:
            file.write(content)
        with open_path(slot.path, wait=5) as opened:
            assert Card(opened).select().lifecycle


def test_the_file_keeps_its_size(card: emulator.Card, slot: places.Place) -> None:
    with open_path(slot.path, wait=5) as opened:
        client = Card(opened)
        client.select()
        client.certificate()
        content = _file(slot).read_bytes()
    assert len(content) == SIZE and parse(content) is not None


def test_taken_out(card: emulator.Card, slot: places.Place) -> None:
    with open_path(slot.path, wait=5) as opened:
        client = Card(opened)
        client.select()
        card.remove()
        with changed(sd_answer_s=0.3), pytest.raises(LinkLostError) as lost:
            client.info()
        assert lost.value.maybe_executed
    with changed(sd_greet_s=0.2), pytest.raises(NoCardError, match="no SD card"):
        open_path(slot.path)
    places.put(card, slot)
    with open_path(slot.path, wait=5) as opened:
        Card(opened).select()


def test_one_program_at_a_time(card: emulator.Card, slot: places.Place) -> None:
    with open_path(slot.path, wait=5) as opened:
        client = Card(opened)
        client.select()
        with pytest.raises(TransportError, match="Another program"):
            open_path(slot.path)
        assert client.info()  # and its session goes on
    open_path(slot.path).close()


def test_paths(tmp_path: Path) -> None:
    with pytest.raises(PathError):
        open_path("sd:")
    with pytest.raises(NoCardError):
        open_path(f"sd:{tmp_path}")
