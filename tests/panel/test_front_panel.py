# SPDX-License-Identifier: Apache-2.0
"""The emulated front of a visual card, with no card behind it; what the forms say of fronts."""

from __future__ import annotations

import pytest

from chipcash.center.parameters import Parameters
from chipcash_panel.framebuffer import SIZE
from chipcash_sim import forms
from chipcash_sim.hardware.panel import BUTTONS, FrontPanel
from chipcash_sim.plug import CardGone


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
