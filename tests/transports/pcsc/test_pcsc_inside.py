# SPDX-License-Identifier: Apache-2.0
"""PcscConnection behind a real pcscd, with a scripted card."""

import logging
import statistics
import threading
import time
from collections.abc import Callable

import pytest

from chipcash.errors import (
    LinkLostError,
    NoCardError,
    NoReaderError,
    TransportError,
)
from chipcash.transports import TRAFFIC, open_path, pcsc
from chipcash_sim.pcscd import Session

ECHO = b"\x00\xcb\x00\x00"
T0 = "3b00"
CONTACTLESS = "3b80800101"


def test_connect_by_name_part_and_first(insert: Callable, session: Session) -> None:
    insert(1)
    for path in ("pcsc:", "pcsc:CHIPCASH 2 00 00", f"pcsc:{session.readers[1]}"):
        with open_path(path, wait=5) as card:
            assert card.path == f"pcsc:{session.readers[1]}"
            assert not card.over_air
            assert card.transceive(ECHO + b"\x00") == ECHO + b"\x00\x90\x00"
            assert card.transceive(b"\x00\xa4\x04\x00\x00") == b"\x6a\x82"


def test_extended_both_ways(insert: Callable) -> None:
    insert()
    with open_path("pcsc:", wait=5) as card:
        for size in (256, 2048, 60000):
            command = ECHO + b"\x00" + size.to_bytes(2, "big") + bytes(size) + b"\x00\x00"
            assert card.transceive(command) == command + b"\x90\x00"
        read = card.transceive(b"\x00\xb0\x00\x00\x00\xff\x00")
        assert len(read) == 0xFF00 + 2 and read.endswith(b"\x90\x00")


def test_t0_commands_as_t0_transmits_them(insert: Callable) -> None:
    insert(atr=T0)
    with open_path("pcsc:", wait=5) as card:
        assert isinstance(card, pcsc.PcscConnection) and card.protocol == "T=0"
        assert card.transceive(ECHO) == ECHO + b"\x00\x90\x00"
        assert card.transceive(ECHO + b"\x02ab\x00") == ECHO + b"\x02ab\x90\x00"


def test_contactless_is_told_by_the_atr(insert: Callable) -> None:
    insert(atr=CONTACTLESS)
    with open_path("pcsc:", wait=5) as card:
        assert isinstance(card, pcsc.PcscConnection)
        assert card.over_air and card.protocol == "T=1"
        assert card.atr == bytes.fromhex(CONTACTLESS)


def test_two_readers_at_once(insert: Callable, session: Session) -> None:
    insert(0)
    insert(1, CONTACTLESS)
    first, second = (open_path(f"pcsc:{name}", wait=5) for name in session.readers)
    with first, second:
        for n in range(50):
            assert first.transceive(ECHO + bytes([n])) == ECHO + bytes([n]) + b"\x90\x00"
            assert second.transceive(b"\x00\xb0\x00\x00\x01") == b"\x00\x90\x00"
        assert (first.over_air, second.over_air) == (False, True)


def test_no_card(session: Session) -> None:
    with pytest.raises(NoCardError, match="no card in any reader"):
        open_path("pcsc:")
    with pytest.raises(NoCardError, match=f"“{session.readers[0]}”") as caught:
        open_path(f"pcsc:{session.readers[0]}")
    assert caught.value.exit_code == 5 and caught.value.hint


def test_unknown_reader_and_ambiguous_name(session: Session) -> None:
    with pytest.raises(NoReaderError) as caught:
        open_path("pcsc:ACR122U")
    assert caught.value.message.startswith("There is no reader called “ACR122U”. Connected: ")
    assert all(name in caught.value.message for name in session.readers)
    assert caught.value.facts["path"] == "pcsc:ACR122U"
    with pytest.raises(NoReaderError, match="“chipcash” stands for 4 readers"):
        open_path("pcsc:chipcash")


def test_waiting_for_the_tap(insert: Callable) -> None:
    started = time.monotonic()
    threading.Timer(0.5, insert).start()
    with open_path("pcsc:", wait=60):
        assert 0.4 < time.monotonic() - started < 50


def test_power_lost_in_a_command(insert: Callable) -> None:
    insert()
    with open_path("pcsc:", wait=5) as card:
        with pytest.raises(LinkLostError) as caught:
            card.transceive(b"\x00\xfe\x00\x00")
        assert caught.value.maybe_executed and caught.value.exit_code == 6
        print(caught.value.as_dict())


def test_removed_between_commands_then_put_back(insert: Callable) -> None:
    process = insert()
    with open_path("pcsc:", wait=5) as card:
        assert card.transceive(ECHO)[-2:] == b"\x90\x00"
        process.kill()
        process.wait()
        while pcsc.occupied_readers():  # pcscd looks every 0.4 s
            time.sleep(0.05)
        with pytest.raises(LinkLostError) as caught:
            card.transceive(ECHO)
        print(caught.value.as_dict())
        with pytest.raises(LinkLostError):
            card.transceive(ECHO)
    with pytest.raises(NoCardError):
        open_path("pcsc:")
    insert()
    with open_path("pcsc:", wait=5) as card:
        assert card.transceive(ECHO)[-2:] == b"\x90\x00"


def test_used_by_another(insert: Callable) -> None:
    insert()
    with open_path("pcsc:", wait=5), pytest.raises(TransportError, match="Another program"):
        open_path("pcsc:")


def test_closed_twice_and_used_after(insert: Callable) -> None:
    insert()
    card = open_path("pcsc:", wait=5)
    card.close()
    card.close()
    with pytest.raises(LinkLostError) as caught:
        card.transceive(ECHO)
    assert not caught.value.maybe_executed


def test_pcscd_restart_in_a_session(insert: Callable, session: Session) -> None:
    insert()
    with open_path("pcsc:", wait=5) as card:
        session.restart()
        with pytest.raises(LinkLostError) as caught:
            card.transceive(ECHO)
        print(caught.value.as_dict())
    insert()
    with open_path("pcsc:", wait=5) as card:
        assert card.transceive(ECHO)[-2:] == b"\x90\x00"


def test_pcscd_restart_while_waiting(insert: Callable, session: Session) -> None:
    """The context that waits goes stale; the wait goes on with a new one."""

    def restart() -> None:
        session.restart()
        insert()

    threading.Timer(0.4, restart).start()
    with open_path("pcsc:", wait=10) as card:
        assert card.transceive(ECHO)[-2:] == b"\x90\x00"


def test_pcscd_stopped(session: Session) -> None:
    session.stop()
    try:
        with pytest.raises(NoReaderError, match="pcscd\\) does not run"):
            open_path("pcsc:")
        with pytest.raises(NoReaderError, match="pcscd\\) does not run"):
            pcsc.readers()
    finally:
        session.start()
    assert session.readers[0] in pcsc.readers()


def test_traffic_is_logged_without_pins(insert: Callable, caplog: pytest.LogCaptureFixture) -> None:
    insert()
    with caplog.at_level(TRAFFIC), open_path("pcsc:", wait=5) as card:
        card.transceive(ECHO)
        card.transceive(b"\x00\x20\x00\x80\x041234")
    assert [record.levelname for record in caplog.records] == ["TRAFFIC"] * 4
    assert "> 00cb0000" in caplog.text and "< 6d00" in caplog.text
    assert "31323334" not in caplog.text and "00200080 [5 bytes not logged]" in caplog.text
    assert logging.getLevelName(5) == "TRAFFIC"


def test_no_acknowledgement_is_delayed(insert: Callable) -> None:
    """Anywhere it would cost 40 ms an APDU; what else this machine does takes some of them as long."""
    insert()
    with open_path("pcsc:", wait=5) as card:
        times = []
        for _ in range(100):
            started = time.perf_counter()
            card.transceive(ECHO)
            times.append(time.perf_counter() - started)
    assert statistics.quantiles(times, n=5)[0] < 0.02
