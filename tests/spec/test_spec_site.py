# SPDX-License-Identifier: Apache-2.0
"""site.md says what the site's builder and server do."""

from __future__ import annotations

import json
from pathlib import Path

from chipcash.site.building import FORMAT
from chipcash.site.serving import HEADERS
from tests.site.published import Story
from tests.spec.test_spec import prose, table


def test_headers() -> None:
    told = {
        name.strip("`"): value.strip("`") for name, value in table("site.md", "header", "value")
    }
    assert {name: told[name] for name in HEADERS} == HEADERS
    assert told.keys() - HEADERS.keys() == {"Cache-Control"}


def test_files(tmp_path: Path) -> None:
    story = Story(tmp_path, "p256")
    rows = {row[0]: row[1] for row in table("site.md", "path", "what", "changes")}
    assert f"`{FORMAT}`" in prose("site.md")
    for name in ("config.json", "state.json"):
        data = json.loads((story.site / name).read_bytes())
        for member in data.keys() - {"format"}:
            assert f"`{member}`" in rows[f"`{name}`"]
    for member in data["records"]:
        assert f"`{member}`" in rows["`state.json`"]
    digits = data["records"]["depth"]
    names = [x.name for x in (story.site / "records" / data["records"]["root"]).iterdir()]
    assert sorted(names) == [f"{at:0{digits}x}" for at in range(16**digits)]
