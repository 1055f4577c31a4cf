# SPDX-License-Identifier: Apache-2.0
"""The site's files: what they are made of, what they give away, and when none are made."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

from chipcash.log.errors import AuditFailed, LogError, LogInvalid, LogUnreachable
from chipcash.log.facts import fact_of
from chipcash.log.note import open_note
from chipcash.log.reader import Folder, LogReader
from chipcash.log.tiles import partials, tile_path
from chipcash.site.building import build, confirm
from chipcash.site.records import Records, record_key
from chipcash.trust import object_id
from chipcash_wire import objects as o
from tests.site.published import AUDITOR, LOG, WITNESSES, Published, Story, copied


@pytest.fixture
def story(stories: Callable[[str], Story]) -> Story:
    return stories("p256")


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_same_log_makes_the_same_records(story: Story, tmp_path: Path) -> None:
    """However often it was built before, by whom and when: so an auditor can compare."""
    again = build(tmp_path, story.reader, story.world.trust, lambda: 7)
    assert again.index == story.built.index
    records = f"records/{again.index.root.hex()}"
    assert content(tmp_path / records) == content(story.site / records)


def test_grown_in_steps_it_is_the_log(tmp_path: Path) -> None:
    """The site's tiles are the log's, byte for byte, over the edges of tiles; older records go away."""
    small = Published(tmp_path, "p256")
    roots = []
    for count in (1, 100, 33):
        for _ in range(count):
            small.world.issue(1, "alice")
        small.publish()
        roots.append(small.build().index.root.hex())
    log, site = content(tmp_path / "public"), content(tmp_path / "site" / "log")
    assert site["checkpoint"] == log["checkpoint"]
    size = len(small.recorder.entries)
    wanted = {tile_path(*each) for each in partials(size)} | {tile_path(0, 0)}
    assert size > 256 and not [name for name in site if name.startswith(f"{tile_path(0, 0)}.p")]
    assert {name: site[name] for name in wanted} == {name: log[name] for name in wanted}
    assert sorted(x.name for x in (tmp_path / "site" / "records").iterdir()) == sorted(roots[-2:])
    assert {
        path.stat().st_mode & 0o777 for path in (tmp_path / "site").rglob("*") if path.is_file()
    } == {0o644}
    shutil.rmtree(tmp_path / "site")
    assert small.build().index.root.hex() == roots[-1]


def test_what_is_given_away(story: Story) -> None:
    """Nothing of a payment can be read in the site's files, nor opened with an id."""
    everything = b"".join(content(story.site / "records").values()) + b"".join(
        content(story.site / "log").values()
    )
    for entry in story.recorder.entries[: story.built.checkpoint.size]:
        fact = fact_of(entry)
        for name in ("serial", "owner", "payee", "nonce", "title_id", "claim_id", "subject"):
            value = getattr(fact, name, None)
            assert value is None or value not in everything
        if isinstance(fact, o.Coin | o.Title | o.Claim | o.Evidence):
            assert object_id(fact) not in everything
            assert record_key(fact) not in everything
    # Only who has the title's signature has its key, whichever way that was written down.
    title = story.title
    assert title.signature is not None
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    other_s = (order - int.from_bytes(title.signature[32:], "big")).to_bytes(32, "big")
    negated = title.signed(title.signature[:32] + other_s)
    assert record_key(negated) == record_key(title)
    key = record_key(title)
    locator = hashlib.sha256(b"chipcash locator\n" + key).digest()[:16]
    index = story.built.index
    path = story.site / "records" / index.root.hex() / locator.hex()[: index.depth]
    data = path.read_bytes()[index.depth * 4 * 32 :]
    at = data.index(locator) + 16
    sealed = data[at + 4 : at + 4 + int.from_bytes(data[at : at + 4], "big")]
    text = AESGCMSIV(key).decrypt(bytes(12), sealed, None)
    length = int.from_bytes(text[8:10], "big")
    assert fact_of(o.LogEntry.decode(text[10 : 10 + length])) == title
    assert len(text) == 10 + length  # it is live: nothing else happened to it
    for wrong in (object_id(title), hashlib.sha256(title.message()).digest()):
        with pytest.raises(InvalidTag):
            AESGCMSIV(wrong).decrypt(bytes(12), sealed, None)


def test_what_is_not_built(story: Story, tmp_path: Path) -> None:
    """A log that breaks the rules, goes back or lacks its witnesses: the site stays as it was."""
    before = content(story.site)
    keys = [witness.key for witness in WITNESSES]
    public, entries = Folder(story.folder / "public"), Folder(story.folder / "entries")
    with pytest.raises(LogInvalid, match="2 of the 3 cosignatures"):
        build(story.site, LogReader(LOG.key, public, entries, keys, 3), story.world.trust)
    older = Published(tmp_path / "older", "p256")
    older.world.issue(1, "alice")
    older.publish()
    with pytest.raises(LogInvalid, match="does not continue"):
        build(story.site, older.reader, story.world.trust)
    wrong = Published(tmp_path / "wrong", "p256")
    wrong.world.issue(1, "alice")
    wrong.recorder.look()
    wrong.recorder.entries.append(wrong.recorder.entries[-1])
    wrong.publish()
    with pytest.raises(AuditFailed):
        wrong.build()
    assert not (wrong.site / "state.json").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis").write_text("x")
    with pytest.raises(LogError, match="something else"):
        build(tmp_path / "mine", story.reader, story.world.trust)
    assert content(story.site) == before
    (bundle,) = (story.folder / "entries").rglob("*.p/26")
    good = bundle.read_bytes()
    bundle.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises((LogInvalid, AuditFailed)):
        story.build()
    bundle.write_bytes(good)
    shutil.move(story.folder / "entries" / "tile", tmp_path / "entries")
    with pytest.raises(LogInvalid, match="tile/entries"):
        story.build()
    assert content(story.site) == before
    shutil.move(tmp_path / "entries", story.folder / "entries" / "tile")


def test_an_auditor_finds_records_that_are_not_the_logs(story: Story, tmp_path: Path) -> None:
    """A site that leaves out what happened to a title proves all that it says, and is still found."""
    site = copied(story.site, tmp_path / "site")
    state = json.loads((site / "state.json").read_bytes())
    with Records() as records:
        for number, entry in enumerate(story.recorder.entries[: story.built.checkpoint.size]):
            if not entry.moves:
                records.add(number, entry.encode())
        (site / "records" / "new").mkdir()
        index = records.write(site / "records" / "new")
    assert index.root != story.built.index.root
    state["records"]["root"] = index.root.hex()
    (site / "state.json").write_text(json.dumps(state))
    with pytest.raises(LogInvalid, match="records of this site are not those"):
        confirm(Folder(site), story.reader, story.world.trust, AUDITOR)
    with pytest.raises(LogUnreachable):
        confirm(Folder(tmp_path), story.reader, story.world.trust, AUDITOR)
    note = confirm(Folder(story.site), story.reader, story.world.trust, AUDITOR, lambda: 5)
    (signature,) = open_note(note, [AUDITOR.key]).signatures
    assert signature.time == 5


def test_what_is_of_others_is_named(story: Story) -> None:
    """Versions of the bundled libraries, as package.json pins them, are told beside them."""
    from importlib import resources

    folder = resources.files("chipcash.site")
    pinned = json.loads((folder / "vendor" / "package.json").read_text())["dependencies"]
    told = (folder / "static" / "vendor" / "LICENSES.txt").read_text()
    for name, version in pinned.items():
        assert f"{name} {version}" in told
    bundled = "".join(
        (folder / "static" / "vendor" / name).read_text() for name in ("crypto.js", "qr.js")
    )
    assert set(re.findall(r"^// node_modules/((?:@\w+/)?[\w-]+)/", bundled, re.M)) == set(pinned)
