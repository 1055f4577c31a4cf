# SPDX-License-Identifier: Apache-2.0
"""The boards' images: `make firmware`, or build.py [--boards FOLDER] [--output FOLDER] [--no-measure]
[--key FILE [--new-key SUITE]].

For each board and each form of card that it can be, build/firmware/BOARD-FORM/ holds what goes onto the
board's file system: the card compiled to .mpy, main.py, and manifest.json, which lists each file with its
size and SHA-256. With a key, its publisher's, build/firmware/BOARD-FORM.ccf is the same as an update that
cards with firmware of that publisher take (chipcash.firmware); without, an image takes no updates. Same
sources, same compiler and same key, same bytes, signature included. build/firmware/report.json says what
each takes, and what a tap is expected to take. Nothing of this has been on a board."""

import argparse
import ast
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chipcash.boards.benchmark import PAGE_MS, PROCESSORS, Processor, measure
from chipcash.crypto import PrivateKey
from chipcash.errors import ChipcashError
from chipcash.firmware import MANIFEST, make_update
from chipcash_card.applet import ROLLBACK, VERSION
from chipcash_sim import runtime

__all__ = ["PROCESSORS", "Processor", "build", "measure", "modules", "report", "tap", "taps"]

ROOT = Path(__file__).parents[1]
CONFIG = "chipcash_config"
"""The module that the image's main.py takes the board's configuration from."""


_BUS_KBIT = 400  # of the PN532's I2C bus, 9 bits a byte
_ACTIVATION_KBIT = 106  # of ISO/IEC 14443-3 type A, 9 bits a byte; its frames are left out
_ACTIVATION_BYTES = 34  # REQA to ATS with an identifier of four bytes
_MEASURING = "256k"  # heap of the program that measures a card's commands
_FRAME_BYTES = 24  # around each part of an APDU on that bus: frame, acknowledgement, status polled


def modules(root: Path = ROOT) -> dict[str, Path]:
    """The files that main.py needs at run time, and what those need, by where they are imported from."""
    found: dict[str, Path] = {}
    waiting = [root / "firmware" / "main.py"]
    while waiting:
        for name in _imported(ast.parse(waiting.pop().read_text())):
            for folder in ("firmware", "protocols"):
                path = root / folder / name.replace(".", "/")
                file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
                where = file.relative_to(root / folder).as_posix()
                if file.is_file() and where not in found:
                    found[where] = file
                    waiting.append(file)
    return dict(sorted(found.items()))


def _imported(tree: ast.AST) -> Iterator[str]:
    """Names that code imports, or that may be modules where it imports from a package."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _with_packages(alias.name)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from _with_packages(node.module)
            for alias in node.names:
                yield f"{node.module}.{alias.name}"
        else:
            yield from _imported(node)


def _with_packages(name: str) -> Iterator[str]:
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        yield ".".join(parts[:end])


def build(
    board: str,
    config: str,
    form: str,
    output: Path,
    root: Path = ROOT,
    *,
    publisher: PrivateKey | None = None,
    version: str = VERSION,
    rollback: int = ROLLBACK,
) -> dict[str, Any]:
    """Write one image into the folder output, which it replaces, and with a publisher the update file beside
    it; its manifest.

    config: source of the board's configuration; form: as that has it; root: the checkout; version, rollback:
    of the firmware. Raises RuntimeMissing without mpy-cross, and CalledProcessError where it refuses a file.
    """
    target = f"{board}-{form}"
    processor = PROCESSORS[board]
    shutil.rmtree(output, ignore_errors=True)
    for name, file in modules(root).items():
        compiled = (output / name).with_suffix(".mpy")
        runtime.compile_file(file.read_bytes(), name, compiled, processor.arch)
    signer = None if publisher is None else (publisher.suite.id, publisher.public)
    constants = {
        "FORM": form,
        "TARGET": target,
        "VERSION": version,
        "ROLLBACK": rollback,
        "PUBLISHER": signer,
    }
    source = "\n".join([config, *(f"{name} = {value!r}" for name, value in constants.items()), ""])
    runtime.compile_file(source.encode(), f"{CONFIG}.py", output / f"{CONFIG}.mpy", processor.arch)
    shutil.copyfile(root / "firmware" / "main.py", output / "main.py")
    files: list[dict[str, Any]] = [
        {
            "path": file.relative_to(output).as_posix(),
            "bytes": file.stat().st_size,
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        }
        for file in sorted(output.rglob("*"))
        if file.is_file()
    ]
    compiler = subprocess.run(
        [runtime.compiler(), "--version"], capture_output=True, check=True, text=True
    )
    manifest = {
        "board": board,
        "form": form,
        "version": version,
        "rollback": rollback,
        "arch": processor.arch,
        "compiler": compiler.stdout.strip(),
        "bytes": sum(each["bytes"] for each in files),
        "files": files,
    }
    (output / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
    update = output.parent / f"{output.name}.ccf"
    update.unlink(missing_ok=True)
    if publisher is not None:
        content = {
            each: (output / each).read_bytes() for each in [MANIFEST, *(x["path"] for x in files)]
        }
        update.write_bytes(make_update(content, target, version, rollback, publisher))
    return manifest


def measure_commands(suite: str) -> dict[str, int]:
    """What each command takes of the heap of an emulated card at its peak: see tests/portable/heap.py.

    MicroPython's collector keeps what some number looks like a pointer to, so once in twenty runs a command
    seems to take some kilobytes more. What the program has beside the card (a network, a publisher, further
    keys) gets heap of its own: a card is not to fail for it.
    """
    from chipcash_wire import card_objects as o

    with tempfile.TemporaryDirectory() as scratch:
        for name in ("network", "updates", "heap"):
            source = (ROOT / "tests" / "portable" / f"{name}.py").read_bytes()
            runtime.compile_file(source, f"{name}.py", Path(scratch, f"{name}.mpy"), None)
        suite_id = o.SUITE_GM if suite == "gm" else o.SUITE_P256
        argv, environment = runtime.micropython_command(
            "heap", [str(suite_id)], _MEASURING, scratch
        )
        environment["CHIPCASH_SCRATCH"] = scratch
        done = subprocess.run(argv, env=environment, capture_output=True, check=True, text=True)
    found: dict[str, int] = json.loads(done.stdout)
    return dict(sorted(found.items()))


def tap(
    board: str,
    measured: dict[str, int],
    *,
    kbit: int = _ACTIVATION_KBIT,
    coupon: bool = True,
    torn: bool = False,
) -> dict[str, float]:
    """Milliseconds that SELECT and PAY are expected to take over a PN532, by what they go to.

    kbit: a second on the air. coupon: one is ready, as the card sees to between taps. torn: the last byte of
    the answer was lost, and the terminal asks again, to be answered out of the log.

    Computed, never measured, so no more than a size: a board is taken to interpret slower than the unix port
    by as much as it signs slower. Not known, and left out: what the PN532 itself takes, the terminal's own
    time.
    """
    processor = PROCESSORS[board]
    # Two commands, two answers, and what is longer than a frame.
    parts = 4 + measured["bytes"] // 262
    slower = processor.sign_s * 1e6 / measured["sign"]
    taps = 2 if torn else 1
    work = measured["select"] * taps + measured["pay"] + (measured["again"] if torn else 0)
    found = {
        "air": (_ACTIVATION_BYTES * 9 / _ACTIVATION_KBIT + measured["bytes"] * 9 / kbit) * taps,
        "bus": (measured["bytes"] + parts * _FRAME_BYTES) * 9 / _BUS_KBIT * taps,
        "crypto": 0 if coupon else processor.sign_s * 1000,
        "interpreter": work * slower / 1000,
        "flash": measured["pages"] * PAGE_MS,
    }
    return {name: round(ms, 1) for name, ms in {**found, "total": sum(found.values())}.items()}


def taps(board: str, measured: dict[str, int]) -> dict[str, dict[str, float]]:
    """What a tap is expected to take as it is, and what it would without, or with, what makes a difference:
    see tap()."""
    return {
        "usual": tap(board, measured),
        "torn": tap(board, measured, torn=True),
        "no-coupon": tap(board, measured, coupon=False),
        **{f"{kbit}kbit": tap(board, measured, kbit=kbit) for kbit in (212, 424)},
    }


def report(
    images: list[dict[str, Any]],
    measured: dict[str, dict[str, int]],
    commands: dict[str, dict[str, int]],
) -> dict[str, Any]:
    """What the images take, and what a payment is expected to; measured and commands: by suite, empty to
    leave them out."""
    found: dict[str, Any] = {
        "images": [
            {name: image[name] for name in ("board", "form", "arch", "bytes")} for image in images
        ]
    }
    if measured:
        found["heap"] = {
            "what": "bytes, measured under MicroPython unix, 64-bit, with the panel: at rest, code "
            "included; allocated by one payment of one title with nothing collected. A 32-bit board "
            "takes less",
            **{
                suite: {"rest": each["rest"], "payment": each["payment"]}
                for suite, each in measured.items()
            },
        }
        found["commands"] = {
            "what": "bytes of heap that a command takes at its peak besides what is in use before it, "
            "measured under MicroPython unix, 64-bit; what it imports for the first time is in it",
            **commands,
        }
        found["tap"] = {
            "what": "milliseconds, computed and never measured: see tap() in build.py",
            **{
                board: {suite: taps(board, each) for suite, each in measured.items()}
                for board in dict.fromkeys(image["board"] for image in images)
            },
        }
    return found


def main() -> int:
    """Build all images, and say what they take."""
    parser = argparse.ArgumentParser(description="Build the boards' images; nothing is flashed.")
    parser.add_argument("--boards", type=Path, default=ROOT / "firmware" / "chipcash_boards")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "firmware")
    parser.add_argument("--key", type=Path, help="the publisher's key file: signs updates")
    parser.add_argument("--new-key", choices=("gm", "p256"), help="make it first, of this suite")
    parser.add_argument("--no-measure", action="store_true", help="no heap and no tap times")
    options = parser.parse_args()
    if options.new_key and not options.key:
        parser.error("--new-key needs --key, the file to write it to")
    images = []
    try:
        if options.new_key:
            PrivateKey.generate(options.new_key).save(options.key)
        publisher = PrivateKey.load(options.key) if options.key else None
        for board in PROCESSORS:
            source = (options.boards / f"{board}.py").read_text()
            constants: dict[str, Any] = {}
            exec(compile(source, board, "exec"), constants)
            for form in constants["LINKS"]:
                folder = options.output / f"{board}-{form}"
                images.append(build(board, source, form, folder, publisher=publisher))
        suites = () if options.no_measure else ("gm", "p256")
        measured = {suite: measure(suite) for suite in suites}
        commands = {suite: measure_commands(suite) for suite in suites}
    except (OSError, runtime.RuntimeMissing, ChipcashError) as error:
        print(f"The images could not be built: {error}", file=sys.stderr)
        return 1
    found = report(images, measured, commands)
    (options.output / "report.json").write_text(json.dumps(found, indent=1) + "\n")
    for image in found["images"]:
        print(f"{image['board']}, {image['form']}: {image['bytes']} bytes ({image['arch']})")
    for board, found_taps in found.get("tap", {}).items():
        if board != "what":
            expected = ", ".join(
                f"{suite} {each['usual']['total']:.0f} ms" for suite, each in found_taps.items()
            )
            print(f"{board}: a tap is expected to take {expected} (computed)")
    for suite, each in commands.items():
        name = max(each, key=each.__getitem__)
        print(f"{suite}: of the heap, {name} takes most: {each[name]} bytes")
    print(f"In {options.output}; report.json says more. Nothing of this has been on a board.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
