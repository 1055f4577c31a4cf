# SPDX-License-Identifier: Apache-2.0
"""The page's modules in Chromium against the test vectors and Python's implementation of the same rules."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from chipcash.log.merkle import consistency_proof, inclusion_proof
from chipcash.log.tiles import TileNodes
from chipcash_wire import objects as o
from tests.browser import browser, new_page  # noqa: F401
from tests.site.published import served

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

VECTORS = Path(__file__).parents[2] / "protocols" / "vectors"
KINDS = {
    "coin", "title", "certificate", "claim", "input", "receipt", "result", "outcome", "blacklist entry",
    "void", "evidence", "payment", "move", "log entry",
}  # fmt: skip
"""Objects that the page knows."""
EMPTY: dict[str, dict[str, list[Any]]] = {
    "receipt": {"results": [], "titles": []},
    "log entry": {
        name: []
        for name in ("coins", "titles", "claims", "results", "moves", "voids", "evidence", "entries",
                     "certificates")
    },
}  # fmt: skip
"""Lists that a vector leaves out where they are empty."""


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:  # noqa: F811
    """A page without the application, that may import its modules."""
    folder = resources.files("chipcash.site") / "static"
    with served(Path(str(folder))) as url, new_page(browser) as found:
        found.goto(f"{url}vendor/LICENSES.txt")
        yield found


def run(page: Page, script: str, argument: Any) -> Any:
    """The value of an async function's body, in which `x` is the argument and the modules are imported."""
    return page.evaluate(
        """async ([script, x]) => {
            const names = ["bytes", "codes", "log", "suites", "wire"];
            const all = await Promise.all(names.map((name) => import(`/${name}.js`)));
            const body = `return (async () => { ${script} })()`;
            return new Function("x", ...names, body)(x, ...all);
        }""",
        [script, argument],
    )


def vectors(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((VECTORS / name).read_text())
    return found


PLAIN = """
    const plain = (value) => {
        if (typeof value === "bigint") return String(value);
        if (value instanceof Uint8Array) return bytes.toHex(value);
        if (Array.isArray(value)) return value.map(plain);
        if (value && typeof value === "object") {
            const { kind, bytes, message, ...fields } = value;
            return Object.fromEntries(Object.entries(fields).map(([name, each]) => [name, plain(each)]));
        }
        return value;
    };
"""


def told(value: Any) -> Any:
    """A vector's fields as the page's decoder has them: numbers as text."""
    if isinstance(value, dict):
        return {name: told(each) for name, each in value.items()}
    if isinstance(value, list):
        return [told(each) for each in value]
    return str(value) if isinstance(value, int) else value


@pytest.mark.parametrize("suite", ["p256", "gm"])
def test_objects(page: Page, suite: str) -> None:
    good = [x for x in vectors(f"objects-{suite}.json") if x["object"] in KINDS]
    found = run(
        page,
        PLAIN
        + """
        return x.map(({ bytes: text }) => {
            const obj = wire.decode(bytes.fromHex(text));
            return {
                object: obj.kind,
                message: obj.message ? bytes.toHex(obj.message) : null,
                id: obj.header ? bytes.toHex(suites.idOf(obj)) : null,
                fields: plain(obj),
            };
        });
        """,
        good,
    )
    assert {x["object"] for x in found} == KINDS
    for vector, each in zip(good, found, strict=True):
        assert each["object"] == vector["object"]
        assert each["message"] == vector.get("message")
        if "id" in vector:
            assert each["id"] == vector["id"]
        assert each["fields"] == {**EMPTY.get(vector["object"], {}), **told(vector["fields"])}


@pytest.mark.parametrize("suite", ["p256", "gm"])
def test_bad_objects(page: Page, suite: str) -> None:
    """Whatever a receiver must refuse is refused; another object's tag may name one that it knows."""
    bad = [x for x in vectors(f"bad-objects-{suite}.json") if x["object"] in KINDS]
    taken = run(
        page,
        """
        return x.map(({ bytes: text }) => {
            try {
                return wire.decode(bytes.fromHex(text)).kind;
            } catch (error) {
                if (!(error instanceof wire.WireError)) throw error;
                return null;
            }
        });
        """,
        bad,
    )
    assert len(bad) > 500
    wrong = [
        (vector["object"], vector["fault"], vector["detail"], kind)
        for vector, kind in zip(bad, taken, strict=True)
        if kind == vector["object"]
    ]
    assert wrong == []


@pytest.mark.parametrize("suite", ["p256", "gm"])
def test_signatures(page: Page, suite: str) -> None:
    cases = vectors(f"signatures-{suite}.json")
    found = run(
        page,
        "const [suite, all] = x; return all.map((v) => suites.verify(suite, "
        "...[v.public, v.message, v.signature].map(bytes.fromHex)));",
        [{"gm": 1, "p256": 2}[suite], cases],
    )
    assert found == [x["verifies"] for x in cases]


def test_codes(page: Page) -> None:
    cases = vectors("codes.json")
    found = run(
        page,
        """
        return x.map(({ texts }) => {
            const parts = new codes.Parts();
            try {
                for (const text of texts) parts.add(text);
                return bytes.toHex(parts.data());
            } catch (error) {
                if (!(error instanceof codes.CodeError)) throw error;
                return null;
            }
        });
        """,
        cases,
    )
    # Some are good codes of an object that is not the one wanted, or is none.
    for vector, data in zip(cases, found, strict=True):
        if "bytes" in vector:
            assert data == vector["bytes"]
    assert found.count(None) >= 15


@pytest.mark.parametrize("suite", ["p256", "gm"])
def test_log(page: Page, suite: str) -> None:
    cases = vectors(f"log-{suite}.json")
    entries = [x for x in cases if "leaf" in x]
    leaves = run(
        page,
        "return x.map((v) => bytes.toHex(log.leafHash(bytes.fromHex(v.entry))));",
        entries,
    )
    assert leaves == [x["leaf"] for x in entries]
    roots = {x["size"]: x["root"] for x in entries}
    proofs = [
        {**x, "root": roots[x["size"]], "old_root": roots.get(x.get("old", 0)), "leaves": leaves}
        for x in cases
        if "proof" in x
    ]
    script = """
        const hex = bytes.fromHex;
        return x.map((v) => {
            const verifies = (size, root, proof) => v.name === "inclusion"
                ? log.verifyInclusion(hex(v.leaves[v.index]), v.index, size, proof, root)
                : log.verifyConsistency(v.old, hex(v.old_root), size, root, proof);
            const proof = v.proof.map(hex);
            const bent = proof.map((step, i) => i ? step : step.map((byte) => byte ^ 1));
            return [
                verifies(v.size, hex(v.root), proof),
                verifies(v.size, hex(v.root).fill(0), proof),
                verifies(v.size, hex(v.root), [...proof, proof[0]]),
                verifies(v.size, hex(v.root), proof.slice(1)),
                verifies(v.size, hex(v.root), bent),
            ];
        });
    """
    assert run(page, script, proofs) == [[True, False, False, False, False]] * len(proofs)
    (checkpoint,) = (x for x in cases if "note" in x)
    opened = """
        const keys = [log.parseKey(x.log), [log.parseKey(x.witness)]];
        const open = (note) => {
            try {
                const found = log.openCheckpoint(note, ...keys);
                return [found.size, bytes.toHex(found.root), found.cosigners.map((each) => each.name)];
            } catch (error) {
                return error.code ?? String(error);
            }
        };
        return [open(x.note), open(x.note.replace("\\n25\\n", "\\n24\\n")), open(x.note + "\\n")];
    """
    size = len(entries)
    assert run(page, opened, checkpoint) == [
        [size, roots[size], [checkpoint["witness"].partition("+")[0]]],
        "log-signature",
        "log-signature",
    ]


def test_proofs_of_large_trees(page: Page) -> None:
    """The same tiles are asked for, and the same proofs made of them, as Python makes."""

    def get(path: str) -> bytes:
        return hashlib.sha256(path.encode()).digest() * 256

    cases = [
        (size, index)
        for size in (1, 2, 255, 256, 257, 65535, 65536, 65537, 70_000_000, 12_345_678_901)
        for index in {0, size // 3, size - 1}
    ]
    expected = []
    for size, index in cases:
        asked: list[str] = []
        nodes = TileNodes(size, lambda path, asked=asked: (asked.append(path), get(path))[1])  # type: ignore[misc]
        proofs = [inclusion_proof(nodes, index, size), consistency_proof(nodes, index, size)]
        expected.append([[step.hex() for step in proof] for proof in proofs] + [asked])
    found = run(
        page,
        """
        const all = [];
        for (const [size, index] of x) {
            const asked = [];
            const tree = new log.Tree({ size }, async (path) => {
                asked.push(path);
                const hash = suites.sha256(new TextEncoder().encode(path));
                return bytes.join(...Array.from({ length: 256 }, () => hash));
            });
            const proofs = [await tree.inclusion(index), await tree.consistency(index)];
            all.push([...proofs.map((proof) => proof.map(bytes.toHex)), asked]);
        }
        return all;
        """,
        cases,
    )
    assert found == expected


def test_both_languages_say_the_same(page: Page) -> None:
    """Every text, and every verdict, check and error that the modules name, in English and in Chinese."""
    shapes = run(
        page,
        """
        const { LANGUAGES } = await import("/texts.js");
        const moods = ["good", "warn", "bad"];
        const shape = (value) => {
            if (moods.includes(value)) return value;
            if (typeof value === "string") return [...value.matchAll(/\\{\\w+\\}/g)].map(String).sort();
            if (Array.isArray(value)) return value.map(shape);
            const entries = Object.entries(value).map(([name, each]) => [name, shape(each)]);
            return Object.fromEntries(entries.sort());
        };
        return [shape(LANGUAGES.en), shape(LANGUAGES.zh)];
        """,
        None,
    )
    assert shapes[0] == shapes[1]
    folder = resources.files("chipcash.site") / "static"
    verify, site, log, codes, app, index = (
        (folder / name).read_text()
        for name in ("verify.js", "site.js", "log.js", "codes.js", "app.js", "index.html")
    )
    both = verify + site + log
    named = set(re.findall(r'check\("([\w-]+)"', both)) | set(
        re.findall(r'LogError\("([\w-]+)"', both)
    )
    named |= set(re.findall(r'"([\w-]+-signed|center-made|card-certified|same-fen)"', verify))
    named |= {"not-cosigned", "older", "fork"} | {"complete", "confirmed"}
    assert named - {"kind"} == set(shapes[0]["checks"])
    verdicts = set(re.findall(r'verdict (?:\|\|)?= "([\w-]+)"', verify)) | {
        *o.OUTCOMES[1:],
        "mixed",
    }
    verdicts |= {"live", "partly", "spent", "redeemed", "missing", "not-registered", "authentic"}
    assert verdicts == set(shapes[0]["verdicts"])
    errors = set(re.findall(r'CodeError\("([\w-]+)"', codes))
    said = set(re.findall(r'say\("([\w-]+)"', app))
    assert errors | said <= set(shapes[0]["errors"]) | set(shapes[0])
    assert set(re.findall(r'data-text="(\w+)"', index)) <= set(shapes[0])
