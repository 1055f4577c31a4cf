# SPDX-License-Identifier: Apache-2.0
"""The emulated front of a visual card: a card process draws on it, and is told of presses."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chipcash.center.ledger import Parameters
from chipcash_panel.framebuffer import SIZE
from chipcash_panel.panel import AGREED, ASKED, DECLINED
from chipcash_sim import forms, runtime
from chipcash_sim.hardware.panel import BUTTONS, FrontPanel
from chipcash_sim.plug import CardGone, Plug

HERE = Path(__file__).parent


class Till:
    """The card between a till and its holder."""

    def __init__(self, front: FrontPanel, plug: Plug) -> None:
        self.front = front
        self.plug = plug

    def ask(self, nonce: bytes) -> int:
        """Tap the card."""
        self.plug.send(nonce)
        return self.plug.receive()[0]

    def press(self, button: str) -> bytes:
        """Press until the card takes it for meant, which at first it does not; the picture after it."""
        before = self.front.frame
        for _ in range(100):
            self.front.press(button)
            try:
                return self.front.wait_for_change(before, 0.1)
            except TimeoutError:
                pass
        raise TimeoutError(button)


@pytest.fixture(params=["cpython", "micropython"])
def till(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Till]:
    with FrontPanel() as front, Plug() as plug:
        arguments = [str(tmp_path / "a.img")]
        arguments += [f"127.0.0.1:{each.port}" for each in (front.plug, plug)]
        if request.param == "cpython":
            argv = [sys.executable, str(HERE / "scripted_card.py"), *arguments]
            environment = dict(os.environ)
        else:
            try:
                argv, environment = runtime.micropython_command(
                    "scripted_card", arguments, path=str(HERE)
                )
            except runtime.RuntimeMissing as missing:
                pytest.skip(str(missing))
        process = subprocess.Popen(argv, env=environment, stdin=subprocess.DEVNULL)
        try:
            front.plug.accept()
            plug.accept()
            yield Till(front, plug)
            plug.close()
            assert process.wait(10) == 0
        finally:
            process.kill()
            process.wait()


def test_a_card_draws_and_is_told_of_presses(till: Till) -> None:
    front = till.front
    idle = front.wait_for_change(bytes(SIZE))
    assert till.ask(b"1") == ASKED
    asking = front.wait_for_change(idle)
    assert till.ask(b"1") == ASKED
    agreed = till.press("confirm")
    assert till.ask(b"1") == AGREED
    paid = front.wait_for_change(agreed)
    after = till.press("refuse")  # seen
    assert len({idle, asking, agreed, paid, after}) == 5
    assert till.ask(b"2") == ASKED
    assert front.wait_for_change(after) == asking
    refused = till.press("refuse")
    assert refused not in (after, asking)
    assert till.ask(b"2") == DECLINED


def test_without_a_card() -> None:
    with FrontPanel() as front:
        assert front.frame == bytes(SIZE)
        with pytest.raises(CardGone):
            front.press("confirm")
        with pytest.raises(ValueError, match="confirm, refuse"):
            front.press("cancel")
        with pytest.raises(TimeoutError, match="did not change within 0.01 s"):
            front.wait_for_change(front.frame, 0.01)


def test_forms_say_what_there_is() -> None:
    for form in forms.FORMS.values():
        shown = form.display is not None
        assert shown == bool(form.buttons) == (form.confirm_above is not None)
        assert form.power in ("field", "host", "battery")
    visual = forms.FORMS["visual-bluetooth"]
    assert visual.display == (128, 64) and visual.buttons == tuple(BUTTONS)
    assert visual.confirm_above == min(tier.pin_free for tier in Parameters().tiers.values())
