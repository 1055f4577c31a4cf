# SPDX-License-Identifier: Apache-2.0
"""The fixtures for pytest, by pytest itself: small test files are run with them. The example in docs/ is
run by test_docs.py."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

# Here, so that pytester does not forget it after a run in this process: C extensions cannot load twice.
import chipcash.sandbox  # noqa: F401

pytest_plugins = "pytester"

# pytester gives its runs another home: the compiled card is to be found all the same.
CACHE = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", CACHE)
    for name in ("CI", "CHIPCASH_VPCD_PORTS", "PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT"):
        monkeypatch.delenv(name, raising=False)


def test_every_link_and_runtime_that_is_asked_for(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        from chipcash.errors import TransportError

        def test_it(chipcash_till, chipcash_card):
            with chipcash_card.connect() as connection:
                chipcash_till.charge(connection, 100)
            assert "PAY" in [step.name for step in chipcash_card.steps()]
            chipcash_card.remove()
            with pytest.raises(TransportError):
                chipcash_card.connect(wait=0)

        @pytest.mark.parametrize("chipcash_link, n", [("serial", 1), ("pcsc", 2)])
        def test_what_it_asks_for_itself(chipcash_card, n):
            assert chipcash_card.path.startswith("serial:")
        """
    )
    options = ("--chipcash-link=sim", "--chipcash-link=nfc", "--chipcash-runtime=all")
    done = pytester.runpytest_inprocess("-v", "-rs", *options, "--chipcash-suite=gm")
    done.assert_outcomes(passed=6, skipped=2)
    done.stdout.fnmatch_lines(["*test_it[[]nfc-micropython] PASSED*"])
    done.stdout.fnmatch_lines(["SKIPPED*no private smart card service*"])


def test_a_link_that_does_not_exist(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(chipcash_card): pass")
    done = pytester.runpytest_inprocess("--chipcash-link=usb")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines(["*--chipcash-link usb: write all or of sim, pcsc, *"])


def test_a_reader_for_each_worker(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("turn", range(4))
        def test_it(chipcash_till, chipcash_card, turn):
            with chipcash_card.connect() as connection:
                chipcash_till.charge(connection, 100)

        def test_more_cards_than_readers(chipcash_cards):
            chipcash_cards(), chipcash_cards()
        """
    )
    session = [sys.executable, "-m", "chipcash_sim.pcscd", "--readers", "2", "--"]
    inner = [sys.executable, "-m", "pytest", "-rs", "-n", "2", "--chipcash-link=pcsc"]
    done = pytester.run(*session, *inner)
    done.assert_outcomes(passed=4, skipped=1)
    done.stdout.fnmatch_lines(["SKIPPED*not enough virtual readers*"])


FAILING = """
    import pytest
    from chipcash.card import Card
    from chipcash.errors import LinkLostError

    def test_it(chipcash_card, chipcash_random):
        with chipcash_card.connect() as connection:
            card = Card(connection)
            card.select()
            card.verify_pin(chipcash_card.pin)
        chipcash_card.insert(cut_before=2)
        with pytest.raises(LinkLostError), chipcash_card.connect() as connection:
            card = Card(connection)
            card.select()
            card.info()
        pytest.fail(f"chose {chipcash_random.random()}")
    """


def _chosen(done: pytest.RunResult, seed: str) -> str:
    """What the failing test chose; its report must have the rest."""
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(
        [
            "*- chipcash card card-1.img -*",
            "vpcd",
            "  SELECT *9000 ok*",
            "  VERIFY *secret*9000 ok*",
            "  GET DATA 01 00 *no answer*",
            "*- chipcash seed -*",
            f"--chipcash-seed={seed}",
        ]
    )
    assert "258013" not in done.stdout.str() and b"258013".hex() not in done.stdout.str()
    return next(line for line in done.outlines if "Failed: chose " in line)


def test_a_failure_shows_the_trace_and_the_seed(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(FAILING)
    first = _chosen(pytester.runpytest_inprocess("--chipcash-seed=77"), "77")
    assert first != _chosen(pytester.runpytest_inprocess(), "*")
    workers = pytester.runpytest_subprocess("-n", "2", "--chipcash-seed=77")
    assert first == _chosen(workers, "77")


def test_other_tests_notice_nothing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_it(request):
            ours = [name for name in sys.modules if name.startswith("chipcash") and "finder" not in name]
            assert sorted(ours) == ["chipcash", "chipcash.pytest_plugin"]
            assert not [name for name in request.fixturenames if "chipcash" in name]
        """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=1)


def test_a_form_brings_its_screen(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        def test_it(chipcash_cards):
            card = chipcash_cards(links=["serial"], form="visual-bluetooth")
            assert card.reader.front.wait_for_change(b"") and card.reader.front.png()
            card.reader.front.press("confirm")
            assert chipcash_cards(links=["serial"]).reader.front is None
        """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=1)
