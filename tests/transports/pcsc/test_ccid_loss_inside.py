# SPDX-License-Identifier: Apache-2.0
"""The serial CCID card lost at every frame of a payment, behind a real pcscd. By T=1: by T=0 the driver takes
23 s to tell each loss, with the same code above it."""

import threading
from pathlib import Path

import pytest

from chipcash.card import Card
from chipcash.errors import LinkLostError, NoReaderError, TransportError
from chipcash.transports import Connection, open_path
from chipcash_sim import emulator
from chipcash_sim.hardware.pty import PtyLine
from chipcash_sim.pcscd import Session
from chipcash_sim.plug import CardGone
from tests.builders import Network
from tests.cards import make_card


@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.long), 3])
def test_link_loss_at_frames(session: Session, tmp_path: Path, step: int) -> None:
    """Afterwards the same request brings the payment, which the card has made once."""
    net = Network()
    image = tmp_path / "a.img"
    make_card(image, net, money=5000)
    card = emulator.Card(image, "cpython")
    with PtyLine() as line:
        card.plug_in(ccid=line.plug)
        path = f"pcsc:{session.add_serial(line.device)}"
        try:
            lost = _cut_at_each(card, line, path, net, session, step)
        finally:
            session.remove_serial()
            card.remove()
    assert lost > 4  # a payment has at least two commands and their answers


def _open_again(path: str, session: Session) -> Connection:
    """The card that is back. Where the driver has given the reader up for good, the service is restarted, as
    a person would. Where its own look for a card was lost, it waits 3 s for the answer
    (DEFAULT_COM_READ_TIMEOUT) before it looks again."""
    try:
        return open_path(path, wait=10)
    except NoReaderError:
        session.restart()
        return open_path(path, wait=10)


def _cut_at_each(
    card: emulator.Card, line: PtyLine, path: str, net: Network, session: Session, step: int
) -> int:
    """How many frames a payment has, about; cut at the first, and at each so many behind it: the driver takes
    seconds to tell a loss."""
    for number, cut in enumerate(range(1, 30, step), 1):
        removed = threading.Event()
        request = net.request(10)
        payment = b""
        try:
            with open_path(path, wait=10) as opened:
                last = line.plug.frames + cut

                def cut_here(
                    frame: int, last: int = last, removed: threading.Event = removed
                ) -> None:
                    if frame == last:
                        card.remove()
                        removed.set()
                        raise CardGone("pulled out")

                line.plug.on_frame = cut_here
                client = Card(opened)
                client.select()
                payment = client.pay(request)
                line.plug.on_frame = None
        except TransportError as error:
            assert removed.is_set(), error
            if isinstance(error, LinkLostError) and not error.maybe_executed:
                assert not payment
        line.plug.on_frame = None
        if not removed.is_set():
            return cut - 1
        card.plug_in(ccid=line.plug)
        with _open_again(path, session) as opened:
            client = Card(opened)
            client.select()
            assert payment in (b"", client.pay(request))
            assert client.info().spent == 10 * number
    pytest.fail("the payment has no end")
