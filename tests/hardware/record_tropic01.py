# SPDX-License-Identifier: Apache-2.0
"""Let the driver of TROPIC01 talk to the vendor's own model of the chip, and print what tests/portable/
tropic_model.py holds of it. The model is github.com/tropicsquare/ts-tvl, which is in no registry.

    python -m tests.hardware.record_tropic01 > model.yml
    python -m tvl.server.server tcp -c model.yml &    # where ts-tvl is installed
    python -m tests.hardware.record_tropic01 28992

Without a port it writes the model's configuration, with a key and certificate made for this."""

from __future__ import annotations

import base64
import sys
import textwrap
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "portable"))

import tropic_bus
import tropic_model

from chipcash_drivers.tropic01 import PING, Refused, Tropic01
from chipcash_sim.hardware import tropic01 as emulated


def configuration() -> str:
    """The model's, in YAML: a chip as it is delivered, but for its certificate."""
    chip = emulated.Tropic01()

    def binary(data: bytes) -> str:
        return f"!!binary {base64.b64encode(data).decode()}"

    return (
        f"s_t_priv: {binary(chip.static.private_bytes_raw())}\n"
        f"s_t_pub: {binary(chip.static.public_key().public_bytes_raw())}\n"
        f"x509_certificate: {binary(chip.certificates)}\n"
        f"riscv_fw_version: {binary(bytes((0, 0, 0, 2)))}\n"
        f"i_pairing_keys: {{0: {{value: {binary(emulated.FACTORY_KEY)}, state: written}}}}\n"
        "busy_iter: [true, false]\n"
    )


class Recorder(tropic_bus.Bus):
    """A bus that remembers what is sent, and of an answer what is read."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.lines: list[str] = []
        self._sent = self._read_back = b""

    def select(self, level: int) -> None:
        super().select(level)
        if level and self._sent:
            answer = self._sent[:1] == b"\xaa"
            data = (self._read_back if answer else self._sent).hex()
            self.lines.append("\n  ".join(textwrap.wrap(f"{'<' if answer else '>'} {data}", 98)))
        self._sent = self._read_back = b""

    def _ask(self, tag: int, data: bytes = b"") -> bytes:
        said: bytes = super()._ask(tag, data)
        if tag == 3:
            self._sent += data
            self._read_back += said
        return said


def record(port: int) -> None:
    """Print the session of test_tropic01_vectors, and what came of it."""
    bus = Recorder(port)
    chip = Tropic01(bus, bus.select, tropic_model.fixed)
    assert chip.present()
    try:
        chip.public()
        raise AssertionError("the model's slot 0 is not empty: restart it")
    except Refused:
        pass
    chip.generate()
    print("PUBLIC", chip.public().hex())
    print("SIGNATURE", chip.sign(tropic_model.DIGEST).hex())
    data = tropic_model.PING_DATA
    assert chip.run(((PING, data, len(data)),)) == data
    print("\n".join(bus.lines))
    bus.close()


if __name__ == "__main__":
    if len(sys.argv) == 1:
        print(configuration(), end="")
    else:
        record(int(sys.argv[1]))
