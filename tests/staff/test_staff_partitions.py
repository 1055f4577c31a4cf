# SPDX-License-Identifier: Apache-2.0
"""The staff's pages over a center of several ledgers: they tell what those of one ledger tell."""

from __future__ import annotations

import re
from pathlib import Path

import httpx

from chipcash.center.inquiry import LATEST
from tests.center.partitioned import Partitioned
from tests.staff.desk import Desk, desk_in


def told(desk: Desk, client: httpx.Client) -> dict[str, str]:
    paths = [
        f"/coins/{desk.coin}", f"/titles/{desk.title}", f"/claims/{desk.later}", "/disputes",
        f"/disputes/{desk.later}", f"/holders/{desk.card}", f"/holders/{desk.lost}",
    ]  # fmt: skip
    found = {path: client.get(path).text for path in paths}
    # Signatures are made with fresh nonces, and evidence is named by a hash of its signatures too.
    return {
        path: re.sub(r'name="csrf" value="\w+"', "", text).replace(desk.digest, "")
        for path, text in found.items()
    }


def test_they_tell_the_same(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "many").mkdir()
    with desk_in(tmp_path / "one") as one, desk_in(tmp_path / "many", Partitioned) as many:
        with one.login("dispute") as client:
            wanted = told(one, client)
        with many.login("dispute") as client:
            found = told(many, client)
            answer = client.get("/find", params={"q": many.digest})
            assert answer.headers["location"] == f"/evidence/{many.digest}"
        assert found == wanted
        # A key's titles are in several partitions; pages of one each bring all of them.
        key = many.world.public("bob")
        for at in range(6):
            many.world.issue(10 + at, "bob")
        whole = many.world.center.titles_ever(key, LATEST, 100)
        paged, before = [], LATEST
        while rows := many.world.center.titles_ever(key, before, 1):
            paged += rows
            before = rows[-1].moment
        assert [x.moment for x in paged] == [x.moment for x in whole] and len(whole) == 8
