# SPDX-License-Identifier: Apache-2.0
"""Write protocols/vectors anew: python -m tests.vectors.generate. The bytes are the same each time."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from chipcash_wire import objects as o
from tests.vectors import (
    make_card,
    make_center,
    make_channel,
    make_codes,
    make_faults,
    make_log,
    make_objects,
    make_terminal,
)
from tests.vectors.signing import NAMES, NETWORK, Network

FOLDER = Path(__file__).parents[2] / "protocols" / "vectors"
SUITES = ("gm", "p256")


def lines(items: Iterable[dict[str, Any]]) -> str:
    """A JSON array with one vector a line, so that a small machine can read it line by line."""
    return "[\n" + ",\n".join(json.dumps(item, separators=(",", ":")) for item in items) + "\n]\n"


def keys(net: Network) -> list[dict[str, Any]]:
    """The keys of a suite."""
    found = []
    for name in NAMES:
        key = net.keys[name]
        found.append(
            {
                "suite": net.suite.name,
                "name": name,
                "private": key.private.hex(),
                "public": key.public.hex(),
                "key_id": key.key_id.hex(),
            }
        )
    return found


def network_file(net: Network) -> str:
    """The network as terminals get it, in the form of network.ccn."""
    certificates = (
        net.certificate("issuer", o.ROLE_ISSUER),
        net.certificate("center", o.ROLE_CENTER),
    )
    data = {
        "format": "chipcash-network-1",
        "network": NETWORK.hex(),
        "suite": net.suite.name,
        "certification_key": net.public("certification").hex(),
        "certificates": [certificate.encode().hex() for certificate in certificates],
    }
    return json.dumps(data, indent=1) + "\n"


def files() -> dict[str, str]:
    """Every file's name and content."""
    networks = [Network(suite) for suite in SUITES]
    made = {"keys.json": lines(line for net in networks for line in keys(net))}
    for net in networks:
        suite = net.suite.name
        good = make_objects.good(net)
        made[f"objects-{suite}.json"] = lines(good)
        made[f"bad-objects-{suite}.json"] = lines(make_faults.bad(net, good))
        made[f"signatures-{suite}.json"] = lines(make_objects.verifying(net))
        made[f"network-{suite}.ccn"] = network_file(net)
        made[f"card-{suite}.json"] = lines(make_card.card(net))
        made[f"sam-{suite}.json"] = lines(make_card.till_card(net))
        made[f"channel-{suite}.json"] = lines(make_channel.channel(net))
        made[f"terminal-{suite}.json"] = lines(make_terminal.terminal(net))
        made[f"evidence-{suite}.json"] = lines(make_terminal.evidence(net))
        made[f"center-{suite}.json"] = lines(make_center.center(net))
        made[f"log-{suite}.json"] = lines(make_log.log(net))
    made["codes.json"] = lines(make_codes.codes(networks[-1]))
    large, larger = make_faults.large(networks[-1])
    made["large-objects.json"] = lines([*large, *larger])
    return made


def main() -> None:
    """Write the files."""
    for name, text in files().items():
        (FOLDER / name).write_text(text, encoding="ascii")


if __name__ == "__main__":
    main()
