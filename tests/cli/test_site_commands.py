# SPDX-License-Identifier: Apache-2.0
"""`chipcash site` as its operator and an auditor run it; what it serves is looked at in tests/site."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import httpx

from chipcash.log.note import COSIGNATURE, Key, open_note
from tests.cli.conftest import Cli
from tests.prefork import chipcash
from tests.site.published import AUDITOR, LOG, WITNESSES, Story


def test_build_confirm_serve(cli: Cli) -> None:
    folder: Path = cli.folder
    story = Story(folder / "story", "gm")
    story.world.trust.save(folder / "network.ccn")
    cli.env["CHIPCASH_NETWORK"] = "network.ccn"
    AUDITOR.save(folder / "audit.key")
    log = ["story/public", "--log", str(LOG.key), "--entries", "story/entries"]
    log += ["--witness", str(WITNESSES[0].key)]
    built = cli.json("site", "build", *log, "site", "--auditor", str(AUDITOR.key))
    assert built["records_root"] == story.built.index.root.hex()
    assert [x["witness"] for x in built["cosigned"]] == ["bank.example/witness"]
    confirm = ["site", "confirm", *log, "site", "--key", "audit.key", "--output"]
    cli.json(*confirm, "site/confirmation")
    note = (folder / "site/confirmation").read_bytes()
    assert open_note(note, [Key.parse(str(AUDITOR.key), COSIGNATURE)]).signatures
    words = [*chipcash(), "site", "serve", "site", "--port", "0", "--json"]
    with subprocess.Popen(words, cwd=folder, env=cli.env, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["url"]
        assert "<h1" in httpx.get(url).text
        assert httpx.get(f"{url}/confirmation").content == note
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 0
    cli.json("site", "serve", "story", code=50)
    cli.json("site", "confirm", *log, "story", *confirm[-3:], "x", code=51)
    assert "PRIVATE" not in cli.printed
