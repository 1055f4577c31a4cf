# SPDX-License-Identifier: Apache-2.0
"""TROPIC01's driver against an emulated chip. Portable, but the chip is another process's: see tropic_bus."""

import os

from element import P256
from tropic_bus import Impatient, driver, fails, new_chip

from chipcash_drivers import tropic01
from chipcash_drivers.tropic01 import FACTORY, PING, Tropic01

DIGEST = P256.hash(b"message")


def signs(chip):
    """Whether what it signs is good under the key that it gives."""
    public = chip.public()
    compressed = bytes((2 + (public[63] & 1),)) + public[:32]
    return P256.verify(compressed, b"message", chip.sign(DIGEST))


def test_it_makes_a_key_and_signs_in_one_session():
    bus = new_chip()
    chip = driver(bus)
    assert chip.present()
    chip.generate()
    assert signs(chip)
    first = chip.public()
    chip.generate()
    assert chip.public() != first and signs(chip)
    assert bus.get("sessions") == "1"


def test_no_key_is_refused_once_and_the_session_stays():
    bus = new_chip()
    chip = driver(bus)
    assert fails(chip.public) and fails(chip.sign, DIGEST)
    assert bus.get("commands") == "[98, 112]" and bus.get("sessions") == "1"
    chip.generate()
    assert signs(chip)
    assert bus.get("sessions") == "1"


def test_a_key_that_came_from_outside_is_refused():
    bus = new_chip()
    chip = driver(bus)
    chip.run(((0x61, b"\x00\x00\x01" + bytes(12) + bytes(31) + b"\x07", 0),))  # ECC_Key_Store
    assert fails(chip.public)
    chip.generate()
    assert signs(chip)


def test_commands_and_results_longer_than_a_frame():
    chip = driver(new_chip())
    for n in (0, 1, 233, 234, 235, 252, 1000):  # 2 + 1 + n + 16 bytes, 252 to a frame
        data = os.urandom(n)
        assert chip.run(((PING, data, n),)) == data


def test_the_chip_has_nothing_else_to_say_before_it_started():
    bus = new_chip()
    bus.set("starting", 20)
    assert driver(bus).present()
    bus.set("starting", 1000)
    with Impatient():
        assert not driver(bus).present()


def test_what_it_was_asked_before_is_not_taken_for_an_answer():
    bus = new_chip()
    chip = driver(bus)
    chip.generate()
    public = chip.public()
    request = b"\x01\x02\x01\x00"
    for _ in range(2):  # the microcontroller restarts after it asked, and before it read
        bus.select(0)
        bus.write(request + tropic01.crc(request))
        bus.select(1)
        assert driver(bus).public() == public


def test_either_factory_key_opens_a_session_and_no_other_does():
    bus = new_chip()
    driver(bus).generate()
    assert signs(driver(bus, (FACTORY[1], FACTORY[0])))
    assert fails(driver(bus, FACTORY[1:]).public)  # the tag is another's
    assert fails(driver(bus, ((1,) + FACTORY[0][1:],)).public)  # nothing in that slot
    assert driver(bus, FACTORY[1:]).present()


def test_bits_lost_on_the_line_are_asked_for_again():
    bus = new_chip()
    chip = driver(bus)
    chip.generate()
    public = chip.public()
    for n in (1, 2):
        bus.set("spoil", n)  # on the way here: the answer is sent again
        assert chip.public() == public
        bus.set("deaf", n)  # on the way there: the request is
        assert chip.public() == public
    assert bus.get("sessions") == "1"
    for fault in ("spoil", "deaf"):
        bus.set(fault, 4)  # more than three times: a new session
        assert chip.public() == public
        bus.set(fault, 1000)
        assert fails(chip.public)
        bus.set(fault, 0)
        assert chip.public() == public
    # By fault two that worked, and one that was only begun, where the chip's answer was lost.
    assert bus.get("sessions") == "6"


def test_a_request_to_send_again_may_be_lost_too():
    """Then the request itself is sent again, and its nonce is the chip's no longer: a new session."""
    bus = new_chip()
    chip = driver(bus)
    chip.generate()
    public = chip.public()
    for _ in range(3):
        bus.set("spoil", 1)
        bus.set("deaf", 1)
        assert chip.public() == public


def test_a_result_that_is_not_the_chips_is_not_taken():
    bus = new_chip()
    chip = driver(bus)
    chip.generate()
    bus.set("forge", 1)
    assert signs(chip)
    assert bus.get("sessions") == "2"
    bus.set("forge", 1000)
    assert fails(chip.sign, DIGEST)
    bus.set("forge", 0)
    assert signs(chip)


def test_a_chip_that_lost_its_power_keeps_its_key():
    bus = new_chip()
    chip = driver(bus)
    chip.generate()
    public = chip.public()
    with Impatient():  # what it is asked while it starts is lost
        for n in (2, 3, 4):
            bus.reset()
            assert signs(chip) and chip.public() == public
            assert bus.get("sessions") == str(n)


def test_a_chip_that_is_silent_or_in_alarm():
    bus = new_chip()
    chip = driver(bus)
    chip.generate()
    with Impatient():
        for fault in ("silent", "alarm"):
            bus.set(fault)
            assert not chip.present() and not driver(bus).present()
            assert fails(chip.sign, DIGEST) and fails(chip.generate)
            bus.set(fault, 0)
            assert chip.present() and signs(chip)


def test_a_dead_random_source_opens_no_session():
    bus = new_chip()
    for dead in (lambda n: bytes(n), lambda n: b""):
        chip = Tropic01(bus, bus.select, dead)
        assert chip.present() and fails(chip.generate)
    assert bus.get("sessions") == "0"


def test_whatever_breaks_off_leaves_no_session():
    """Something else than an error of the chip, such as idle work that is given up for a tap."""
    bus = new_chip()
    chip = driver(bus)
    chip.generate()

    class Enough(Exception):
        pass

    def enough(level, select=bus.select):
        select(1)
        raise Enough()

    chip._select = enough
    try:
        chip.sign(DIGEST)
        raise AssertionError("it signed")
    except Enough:
        chip._select = bus.select
    assert signs(chip)
    assert bus.get("sessions") == "2"
