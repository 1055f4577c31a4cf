# SPDX-License-Identifier: Apache-2.0
"""The verification site's page in Chromium: what it says of documents, and of sites that lie."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from chipcash import qr
from chipcash.log.note import SIGNATURE, SigningKey
from chipcash.log.reader import Folder
from chipcash.site.building import confirm
from chipcash.site.records import Records, record_key
from chipcash.site.serving import HEADERS, SiteService
from chipcash.trust import object_id
from chipcash_wire import objects as o
from tests.browser import browser, new_page  # noqa: F401
from tests.center.world import DAY, START
from tests.site.published import AUDITOR, LOG, WITNESSES, Story, copied, served

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from chipcash_wire.objects import Object

both_suites = pytest.mark.parametrize("story", ["p256", "gm"], indirect=True)


@pytest.fixture(scope="module")
def story(request: pytest.FixtureRequest, stories: Callable[[str], Story]) -> Story:
    """p256, where a test does not ask for both."""
    return stories(getattr(request, "param", "p256"))


@pytest.fixture(scope="module")
def url(story: Story) -> Iterator[str]:
    with SiteService(story.site) as service:
        yield service.url


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:  # noqa: F811
    with opened(browser, url) as found:
        yield found


@contextmanager
def opened(browser: Browser, url: str, **options: Any) -> Iterator[Page]:  # noqa: F811
    """A page at a site, at the time of the story."""
    with new_page(browser, locale="en-GB", **options) as page:
        page.clock.set_fixed_time(START + 60)
        page.goto(url)
        yield page


def check(page: Page, text: str) -> str:
    """Paste and check; the verdict, or what the page says instead."""
    page.fill("#text", text)
    page.click("#check")
    return verdict(page)


def verdict(page: Page) -> str:
    page.wait_for_function(
        "() => !document.getElementById('result').hidden"
        " || !/^$|…/.test(document.getElementById('status').textContent)"
    )
    if page.is_hidden("#result"):
        return page.inner_text("#status")
    found = page.get_attribute("#result", "data-verdict")
    assert found is not None
    return found


def checks(page: Page) -> dict[str, str]:
    """What was checked, and how it ended."""
    found: dict[str, str] = page.evaluate(
        "() => Object.fromEntries([...document.querySelectorAll('#result li[data-check]')]"
        ".map((each) => [each.dataset.check, each.className]))"
    )
    return found


_moments = itertools.count(START)


def put(path: Path, data: bytes) -> None:
    """Write a file, at a time of its own: servers tell versions apart by whole seconds."""
    path.write_bytes(data)
    moment = next(_moments)
    os.utime(path, (moment, moment))


def code(obj: Object) -> str:
    return "\n".join(qr.encode(obj.encode()))


@both_suites
def test_every_document(story: Story, page: Page) -> None:
    for expected, obj in story.documents.items():
        assert check(page, code(obj)) == expected, page.inner_text("#result")
        states = checks(page)
        assert not {"bad", "old", "expired"} & {*states, *states.values()}
        assert ("offline" in states) == (expected in ("live", "partly"))
        assert states["log-signed"] == states["cosigned"] == "good"
        if expected not in ("missing", "not-registered"):
            proven = "titles-in-log" if expected == "authentic" else "in-log"
            assert states[proven] == "good"
            # What rests on a word is never called proven.
            if isinstance(obj, o.Title | o.Payment | o.Receipt):
                assert states["complete"] == "word"
        assert "bank.example/witness" in page.inner_text("#result")
        assert "press.example/witness" in page.inner_text("#result")
        assert "court.example/witness" not in page.inner_text("#result")
    check(page, code(story.partly))
    shown = page.inner_text("#result")
    assert "Still live\n7.00 yuan\nPaid on\n3.00 yuan" in shown
    assert re.search(r"Paid on: 3\.00 yuan, 15 Jan 2027", shown)
    assert check(page, code(story.made)) == "registered"
    assert checks(page)["center-made"] == "good" and "13.00 yuan" in page.inner_text("#result")
    check(page, story.evidence.encode().hex())
    assert "1.00 yuan" in page.inner_text("#result")
    assert checks(page)["listed"] == "good"


@both_suites
def test_forgeries(story: Story, page: Page) -> None:
    world, title = story.world, story.title
    mallory = world.key("mallory")
    center = world.key("center")
    forged = title.signed(mallory.sign(title.message()))
    assert check(page, code(forged)) == "forged"
    assert checks(page) == {"center-signed": "bad"}
    other = bytearray(title.encode())
    other[-1] ^= 1
    assert check(page, code(o.Title.decode(bytes(other)))) == "forged"
    # A second signature of the center over the same title is good, but opens no record.
    if story.world.suite == "gm":
        again = title.signed(center.sign(title.message()))
        assert check(page, code(again)) == "missing"
    claims = story.evidence.claims
    framed = claims[1].signed(mallory.sign(claims[1].message()))
    evidence = o.Evidence(
        header=world.header, title=story.evidence.title, claims=(claims[0], framed)
    )
    assert check(page, evidence.encode().hex()) == "proves-nothing"
    receipt = story.receipt.signed(mallory.sign(story.receipt.message()))
    assert check(page, receipt.encode().hex()) == "forged"
    stolen = o.Payment(
        claim=story.payment.claim.signed(mallory.sign(story.payment.claim.message())),
        titles=story.payment.titles,
        certificate=story.payment.certificate,
    )
    assert check(page, code(stolen)) == "forged"
    coin = world.coin(5, "alice")
    foreign = o.Coin(**{**vars_of(coin), "header": b"TABC" + coin.header[4:]})
    assert (
        check(page, code(foreign.signed(world.key("issuer").sign(foreign.message())))) == "foreign"
    )


def vars_of(obj: Any) -> dict[str, Any]:
    return {name: getattr(obj, name) for name in ("signer", "serial", "amount", "owner")}


def test_what_is_no_document(story: Story, page: Page) -> None:
    assert "Scan or paste" in check(page, " ")
    assert "no code of chipcash" in check(page, "hello")
    assert "no document" in check(page, "00")
    assert "bytes behind" in check(page, story.title.encode().hex() + "00")
    assert "damaged" in check(page, code(story.title)[:-8] + "AAAAAAAA")
    assert "Part 2 of 2" in check(page, qr.encode(bytes(1000))[0])
    assert "none that this page" in check(page, story.world.certificate("bob").encode().hex())


def test_a_copy_on_any_web_server(
    story: Story,
    browser: Browser,  # noqa: F811
    tmp_path: Path,
) -> None:
    """Nothing but the site's files, behind Python's own server; no ledger, entries or key anywhere."""
    site = copied(story.site, tmp_path / "site")
    with served(site) as url, opened(browser, url) as page:
        assert check(page, code(story.partly)) == "partly"
        assert "confirmed" not in checks(page)
        # An auditor's confirmation is shown; that of somebody else, or of another state, is none.
        told = confirm(Folder(site), story.reader, story.world.trust, AUDITOR, lambda: START)
        other = told.replace(b"\n26\n", b"\n27\n")
        strange = confirm(Folder(site), story.reader, story.world.trust, WITNESSES[2])
        for data, by in ((told, True), (other, False), (strange, False), (b"?", False)):
            put(site / "confirmation", data)
            assert check(page, code(story.partly)) == "partly"
            assert checks(page).get("confirmed") == ("word" if by else None)
            assert ("complete" in checks(page)) != by
            assert ("audit.example" in page.inner_text("#result")) == by


def noted(state: dict[str, Any], size: int, root: bytes, *signers: SigningKey) -> bytes:
    """A state with a checkpoint that was signed by the log and by others."""
    text = f"{LOG.key.name}\n{size}\n{base64.b64encode(root).decode()}\n"
    lines = "".join(x.sign(text, START) for x in (LOG, *signers))
    return json.dumps({**state, "checkpoint": f"{text}\n{lines}"}).encode()


def test_sites_that_lie(
    story: Story,
    browser: Browser,  # noqa: F811
    tmp_path: Path,
) -> None:
    site = copied(story.site, tmp_path / "site")
    (tile,) = (site / "log/tile/0").rglob("*.p/*")
    state = json.loads((site / "state.json").read_bytes())
    note = state["checkpoint"]
    size, root = story.built.checkpoint.size, story.built.checkpoint.root
    wrong = bytearray(tile.read_bytes())
    wrong[0::32] = bytes(byte ^ 1 for byte in wrong[0::32])
    line = note.splitlines()[-1]
    lies = [
        (tile, bytes(wrong), "not-included"),
        (tile, bytes(wrong[:32]), "tiles"),
        (site / "state.json", noted(state, size, root), "not-cosigned"),
        (site / "state.json", noted(state, size, root, WITNESSES[0]), "not-cosigned"),
        (site / "state.json", noted(state, size, root, *[WITNESSES[0]] * 2), "not-cosigned"),
        (site / "state.json", noted(state, size + 1, root, *WITNESSES[:2]), "tiles"),
        # A witness's line that is not good; a checkpoint without the log's own signature.
        (
            site / "state.json",
            json.dumps({**state, "checkpoint": note.replace(line, f"{line[:-6]}AAA=")}).encode(),
            "log-signature",
        ),
        (
            site / "state.json",
            json.dumps({**state, "checkpoint": re.sub("— log.*\n", "", note)}).encode(),
            "log-signature",
        ),
        (site / "state.json", b"{}", "unreachable"),
        (site / "state.json", json.dumps({**state, "records": {}}).encode(), "records"),
    ]
    index = story.built.index
    locator = hashlib.sha256(b"chipcash locator\n" + record_key(story.partly)).hexdigest()
    shard = site / "records" / index.root.hex() / locator[: index.depth]
    data = shard.read_bytes()
    lies += [(shard, data[:-1] + bytes([data[-1] ^ 1]), "records")]
    lies += [(shard, bytes([data[0] ^ 1]) + data[1:], "records"), (shard, b"", "records")]
    found = []
    put(shard, data)
    with served(site) as url, opened(browser, url) as page:
        for path, data, name in lies:
            good = path.read_bytes()
            put(path, data)
            said = check(page, code(story.partly))
            states = checks(page)
            found.append((name, said, states.get(name)))
            # What the signature says stands; what the log says is not told.
            assert states["center-signed"] == "good"
            assert "Still live" not in page.inner_text("#result")
            put(path, good)
        assert check(page, code(story.partly)) == "partly"
        # Evidence proves by itself: no site can take that away.
        put(site / "state.json", b"{}")
        assert check(page, story.evidence.encode().hex()) == "proves"
        assert checks(page)["unreachable"] == "bad"
    assert found == [(name, "unproven", "bad") for name, _, _ in found]


def test_records_that_lie(
    story: Story,
    browser: Browser,  # noqa: F811
    tmp_path: Path,
) -> None:
    """True entries about something else are refused. What is left out cannot be seen: the page says on whose
    word it is that nothing is."""
    site = copied(story.site, tmp_path / "site")
    state = json.loads((site / "state.json").read_bytes())
    entries = story.recorder.entries[: story.built.checkpoint.size]
    titles = ("live", "partly", "spent")
    ids = {name: object_id(story.documents[name]) for name in titles}
    ids["settled"] = object_id(story.payment.claim)
    moves = [at for at, entry in enumerate(entries) if entry.moves]
    partly = next(at for at in moves if entries[at].moves[0].title_id == ids["partly"])
    other = next(at for at in moves if entries[at].moves[0].title_id == ids["spent"])

    def tell(*lies: tuple[str, tuple[Any, ...]]) -> None:
        """Records of the log, changed by these statements."""
        folder = tmp_path / "new"
        folder.mkdir()
        with Records() as records:
            for number, entry in enumerate(entries):
                records.add(number, entry.encode())
            for statement, values in lies:
                records._db.execute(statement, values)
            index = records.write(folder)
        folder.rename(site / "records" / index.root.hex())
        told = {**state, "records": {"root": index.root.hex(), "depth": index.depth}}
        put(site / "state.json", json.dumps(told).encode())

    take = "DELETE FROM items WHERE id = ? AND number = ?"
    add = "INSERT INTO items VALUES (?, ?, ?)"
    own = "UPDATE items SET id = ? WHERE id = ?"
    with served(site) as url, opened(browser, url) as page:
        for document, lies in (
            ("live", [(add, (ids["live"], other, entries[other].encode()))]),
            ("settled", [(add, (ids["settled"], other, entries[other].encode()))]),
            ("live", [(own, (b"", ids["live"])), (own, (ids["live"], ids["partly"]))]),
            ("partly", [(add, (ids["partly"], partly + 100, entries[partly].encode()))]),
        ):
            tell(*lies)
            assert check(page, code(story.documents[document])) == "unproven"
            assert "bad" in (checks(page).get("records"), checks(page).get("not-included"))
        tell((take, (ids["partly"], partly)))
        assert check(page, code(story.partly)) == "live"
        assert checks(page)["complete"] == "word"


def test_the_page_remembers_the_log(
    story: Story,
    browser: Browser,  # noqa: F811
    tmp_path: Path,
) -> None:
    """Another log of the same size, an older one, one that does not continue: told; the true one: proven."""
    site = copied(story.site, tmp_path / "site")
    good = (site / "state.json").read_bytes()
    config = json.loads((site / "config.json").read_bytes())
    state = json.loads(good)
    (tile,) = (site / "log/tile/0").rglob("*.p/26")
    put(tile.with_name("40"), tile.read_bytes() + bytes(14 * 32))
    with served(site) as url, opened(browser, url) as page:
        assert check(page, code(story.title)) == "live"
        for name, size in (("fork", 26), ("fork", 40), ("older", 5)):
            put(site / "state.json", noted(state, size, bytes(32), *WITNESSES))
            assert check(page, code(story.title)) == "unproven"
            assert checks(page)[name] == "bad"
            # Both checkpoints of a fork, to be kept.
            assert page.locator("#result pre").count() == (2 if name == "fork" else 0)
        # Nothing of this was believed, and the true log is good as before.
        put(site / "state.json", good)
        page.reload()
        assert check(page, code(story.title)) == "live"
        assert checks(page)["continues"] == "good"
        # Another root of trust is told before anything else, and is taken only by who says so.
        other = {**config, "log": str(SigningKey("other.example", SIGNATURE, bytes(32)).key)}
        put(site / "config.json", json.dumps(other).encode())
        page.reload()
        assert check(page, code(story.title)) == "root-changed"
        put(site / "config.json", json.dumps(config).encode())
        page.reload()
        page.click("summary >> nth=1")
        page.click("#forget")
        assert check(page, code(story.title)) == "live"
        assert "continues" not in checks(page)


def test_a_log_that_grew(
    browser: Browser,  # noqa: F811
    tmp_path: Path,
) -> None:
    """The site is brought up to date under a page that is open: it proves that the log only grew."""
    story = Story(tmp_path, "p256")
    with SiteService(story.site) as service, opened(browser, service.url) as page:
        assert check(page, code(story.title)) == "live"
        story.world.settle(story.world.claim("alice", "shop", [(story.title, 0, 1000)]))
        story.world.now += 30
        story.publish(WITNESSES)
        story.build()
        assert check(page, code(story.title)) == "spent"
        assert checks(page)["continues"] == "good"
        assert check(page, code(story.documents["missing"])) == "live"
        assert "court.example/witness" in page.inner_text("#result")
        page.clock.set_fixed_time(START + 3 * DAY)
        assert check(page, code(story.partly)) == "partly"
        assert checks(page)["old"] == "warn"
        assert "expired" not in checks(page)
        page.clock.set_fixed_time(START + 500 * DAY)
        assert check(page, code(story.partly)) == "partly"
        assert checks(page)["expired"] == "warn"


def test_phone_and_pictures(
    story: Story,
    browser: Browser,  # noqa: F811
    url: str,
    tmp_path: Path,
) -> None:
    """360 pixels wide, dark, in Chinese: pictures of codes, files, the camera, an address with a code."""
    phone = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}
    with opened(browser, url, color_scheme="dark", **phone) as page:
        page.select_option("#language", "zh")
        assert page.title() == "真伪查验"
        pictures = qr.save(qr.encode(story.payment.encode()), tmp_path / "payment.png")
        page.set_input_files("#file", pictures)
        assert verdict(page) == "settled"
        assert "真实，已结算" in page.inner_text("#result")
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 360
        small = page.evaluate(
            "[...document.querySelectorAll('button, select, summary')]"
            ".filter(x => x.offsetHeight && x.offsetHeight < 40).map(x => x.id)"
        )
        assert small == []
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(18, 18, 18)"
        (tmp_path / "evidence").write_bytes(story.evidence.encode())
        page.set_input_files("#file", tmp_path / "evidence")
        page.wait_for_selector("#result[data-verdict=proves]")
        (tmp_path / "none.png").write_bytes(pictures[0].read_bytes()[:100])
        page.set_input_files("#file", tmp_path / "none.png")
        page.wait_for_function(
            "() => document.getElementById('status').textContent.includes('没有找到')"
        )
        # The camera is one that shows a code: a stream from a canvas.
        (picture,) = qr.save(qr.encode(story.title.encode()), tmp_path / "title.png")
        page.evaluate(
            """async (data) => {
                const bytes = Uint8Array.from(atob(data), (x) => x.charCodeAt(0));
                const image = await createImageBitmap(new Blob([bytes]));
                const canvas = document.createElement("canvas");
                [canvas.width, canvas.height] = [640, 640];
                const context = canvas.getContext("2d");
                setInterval(() => context.drawImage(image, 20, 20, 600, 600), 40);
                navigator.mediaDevices.getUserMedia = async () => canvas.captureStream(20);
            }""",
            base64.b64encode(picture.read_bytes()).decode(),
        )
        page.click("#scan")
        page.wait_for_selector("#result[data-verdict=live]")
        assert page.is_hidden("#camera")
        page.goto(f"{url}/#{code(story.partly)}")
        page.reload()
        page.wait_for_selector("#result[data-verdict=partly]")
        assert page.evaluate("document.documentElement.lang") == "zh-Hans"


def test_policy(url: str, page: Page) -> None:
    """The page's own policy is the server's, without what only a header can say."""
    own = page.get_attribute("meta[http-equiv=Content-Security-Policy]", "content")
    assert HEADERS["Content-Security-Policy"] == f"{own}; frame-ancestors 'none'"
    answer = page.request.get(url)
    assert {name: answer.headers[name.lower()] for name in HEADERS} == HEADERS
    # And it holds: nothing that is put into the page runs, and nobody else is asked.
    assert (
        page.evaluate("() => { try { document.body.innerHTML = '<b>'; } catch { return 1; } }") == 1
    )
