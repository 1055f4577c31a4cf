# SPDX-License-Identifier: Apache-2.0
"""The five forms of the hardware wallet, as data: by which links each is reached, what it lives on, and what
its holder sees and presses.

What a card may pay does not depend on its form, but on its tier: chipcash.certification and the parameters of
chipcash.center.ledger.
"""

from dataclasses import dataclass

from chipcash_panel.panel import CONFIRM_ABOVE


@dataclass(frozen=True)
class Form:
    """One form.

    places: where a card of it is put at once (chipcash_sim.places), the way to a terminal first. power:
    where it comes from: "field" (a reader's, nothing otherwise), "host" (the phone or device that it is in),
    "battery" (its own). display: columns and rows of its screen. buttons: their names, as
    chipcash_sim.hardware.panel has them. confirm_above: fen; its holder confirms a payment of more by a
    button; None where there is none."""

    name: str
    places: tuple[str, ...]
    power: str
    display: tuple[int, int] | None = None
    buttons: tuple[str, ...] = ()
    confirm_above: int | None = None


FORMS = {
    form.name: form
    for form in (
        Form(
            "visual-bluetooth",
            ("nfc", "ble"),
            "battery",
            display=(128, 64),
            buttons=("confirm", "refuse"),
            confirm_above=CONFIRM_ABOVE,
        ),
        Form("ic-card", ("nfc",), "field"),
        Form("esim", ("nfc", "at"), "host"),
        Form("sd-card", ("nfc", "sd"), "host"),
        Form("sim-card", ("nfc", "at"), "host"),
    )
}
"""The forms by their names, which are those of a certificate's form."""
