# SPDX-License-Identifier: Apache-2.0
"""A till's numbers for Prometheus, what is built on them in deploy/, and its log: nobody is in them."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from chipcash.logs import JsonLines
from chipcash.pos.metrics import metrics, metrics_served
from chipcash.pos.till import Till
from tests.till.counter import Counter, center, counter_in

ID = "[0-9a-f]{16}"
"""Of whatever."""
DEPLOY = Path(__file__).parents[2] / "deploy"


@pytest.fixture(scope="module")
def counter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Counter]:
    with counter_in(tmp_path_factory.mktemp("metrics")) as made:
        made.sandbox.new_card(made.sandbox.directory / "card.img", 100_000)
        yield made


def numbers(text: str) -> dict[tuple[str, ...], float]:
    """Each sample by its name and the values of its labels."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_numbers_follow_the_till(counter: Counter) -> None:
    till = counter.till
    before = numbers(metrics(till).decode())
    assert before["chipcash_till_books_up",] == 1
    assert before["chipcash_till_shift_open",] == 0
    with counter.sandbox.offline():
        with till.pos("Wang Fang") as pos:
            pos.open_shift()
            claim = counter.charged(counter.sandbox.directory / "card.img", 1200)
        with metrics_served(till, 0) as url:
            answer = httpx.get(url)
            # By somebody else's name that leads here.
            rebound = httpx.get(url, headers={"host": f"evil.example:{urlsplit(url).port}"})
            assert rebound.status_code == 400 and "chipcash" not in rebound.text
    found = numbers(answer.text)
    assert found["chipcash_till_payments", "PENDING"] == 1
    assert found["chipcash_till_payments_fen", "PENDING"] == 1200
    assert found["chipcash_till_shift_open",] == 1
    assert found["chipcash_till_next_deadline_seconds",] > 0
    assert 0 < found["chipcash_till_limit_ratio", "pending"] < 1
    assert found["chipcash_till_warning", "LIMIT"] == 0
    # Of nobody, and of no single payment.
    for secret in ("Wang", claim.hex(), claim.hex()[:16]):
        assert secret not in answer.text
    without_numbers = re.sub(r" [-+.e\d]+$", "", answer.text, flags=re.MULTILINE)
    assert not re.search(ID, without_numbers)
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)


def test_books_that_cannot_be_read_are_told(counter: Counter, tmp_path: Path) -> None:
    directory = counter.sandbox.directory / "other"
    counter.sandbox.till("other").close()
    with Till(directory, (), center) as till:
        assert numbers(metrics(till).decode())["chipcash_till_books_up",] == 1
        with till.pos() as pos, pos.store.transaction():
            pos.store.execute("ALTER TABLE payments RENAME TO gone")
        assert numbers(metrics(till).decode()) == {("chipcash_till_books_up",): 0}


def test_dashboard_and_alerts_name_what_is_there(counter: Counter) -> None:
    given = {name for name, *_ in numbers(metrics(counter.till).decode())}
    board = json.loads((DEPLOY / "grafana" / "till.json").read_text())
    expressions = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    groups = yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"]
    (rules,) = (group["rules"] for group in groups if group["name"] == "tills")
    assert all(rule["annotations"]["summary"] for rule in rules)
    for group in groups:
        for rule in group["rules"]:
            promql_parser.parse(rule["expr"])
    expressions += [rule["expr"] for rule in rules]
    named = set()
    for expression in expressions:
        promql_parser.parse(expression.replace("$till", "x"))
        named |= set(re.findall(r"chipcash_\w+", expression))
    variable = board["templating"]["list"][1]["query"]["query"]
    assert set(re.findall(r"chipcash_\w+", variable)) <= given
    assert len(named) >= 12 and named <= given
    assert given - named == set()  # and nothing is given that nobody looks at
    with pytest.raises(ValueError):
        promql_parser.parse("sum by (")


def test_panels_do_not_cover_each_other() -> None:
    board = json.loads((DEPLOY / "grafana" / "till.json").read_text())
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    covered: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert at["x"] + at["w"] <= 24 and not covered & cells
        covered |= cells


def test_the_log_tells_of_a_shift_and_of_nobody(
    counter: Counter, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO), counter.till.pos("Wang Fang") as pos:
        if pos.shift is None:
            pos.open_shift()
        counter.charged(counter.sandbox.directory / "card.img", 300)
        pos.close_shift()
    lines = [JsonLines().format(record) for record in caplog.records]
    (told,) = [json.loads(line) for line in lines if "shift closed" in line]
    assert told["balances"] is True and told["taken_fen"] >= 300
    for line in lines:
        assert "Wang" not in line
        assert not re.search(ID, line)
