# SPDX-License-Identifier: Apache-2.0
"""The five forms of the hardware wallet, as data: by which links each is reached.

Not yet here: Bluetooth, and the screen and buttons of the visual card.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Form:
    """One form. places: where a card of it is put at once (chipcash_sim.places), the way to a terminal
    first."""

    name: str
    places: tuple[str, ...]


FORMS = {
    form.name: form
    for form in (
        Form("visual-bluetooth", ("nfc",)),
        Form("ic-card", ("nfc",)),
        Form("esim", ("nfc", "at")),
        Form("sd-card", ("nfc", "sd")),
        Form("sim-card", ("nfc", "at")),
    )
}
"""The forms by their names, which are those of a certificate's form."""
