# SPDX-License-Identifier: Apache-2.0
"""Single commands in depth, in this process: the same command line against a real center and real cards."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from chipcash import qr
from chipcash.center.registration import Center
from chipcash.center.service import Service
from chipcash.cli import root
from chipcash.home import Home, init
from chipcash_sim import runtime
from chipcash_wire import objects as o
from tests.cli.conftest import PIN, Cli, Server
from tests.cli.test_docs_cli import commands


class Shell:
    """Runs commands in an empty folder, a network and its center at hand; the center can go away."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home: Home = init(folder / "network", "p256", b"TEST")
        self.ledger: Center = self.home.center()
        self.service: Service | None = None
        self.port = 0
        self.online()
        self.env: dict[str, str | None] = {
            "CHIPCASH_HOME": str(self.home.directory),
            "CHIPCASH_NETWORK": str(self.home.network_file),
            "CHIPCASH_CENTER": f"http://127.0.0.1:{self.port}",
            "CHIPCASH_POS": str(folder / "till"),
            "CHIPCASH_CARD": f"sim:{folder}/a.img",
            "CHIPCASH_PIN": PIN,
        }

    def online(self) -> None:
        """The center answers (again)."""
        self.service = Service(self.ledger, port=self.port)
        self.port = int(self.service.url.rpartition(":")[2])
        self.service.__enter__()

    def offline(self) -> None:
        """The center is down."""
        if self.service is not None:
            self.service.__exit__(None, None, None)
            self.service = None

    def close(self) -> None:
        self.offline()
        self.ledger.close()

    def run(self, *words: str, code: int = 0, typed: str = "", **env: str | None) -> Result:
        """Run a command, which must end with this exit code."""
        runner = CliRunner(catch_exceptions=False)
        done = runner.invoke(root, words, env={**self.env, **env}, input=typed)
        assert done.exit_code == code, (words, done.exit_code, done.output)
        return done

    def json(self, *words: str, code: int = 0, **env: str | None) -> Any:
        """Run a command with --json; the one object that it prints."""
        return json.loads(self.run(*words, "--json", code=code, **env).stdout)

    def money(self, yuan: str = "100", tier: str = "3") -> None:
        """A till, and a card with money."""
        self.json("bank", "reserve", yuan)
        self.json("bank", "issue", yuan)
        self.json("sim", "new", str(self.folder / "a.img"))
        self.json("card", "personalise", "--tier", tier)
        self.json("bank", "load", yuan)
        self.json("pos", "init", str(self.folder / "till"))
        self.json("pos", "sync")


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    made = Shell(tmp_path)
    yield made
    made.close()


# All of them ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", sorted(commands()))
def test_help(words: str) -> None:
    done = CliRunner().invoke(root, [*words.split(), "--help"])
    assert done.exit_code == 0
    assert done.output.startswith(f"Usage: root {words}") and "--json" in done.output


@pytest.mark.parametrize("words", [[], ["pos"], ["card"]])
def test_a_group_alone_shows_its_help(words: list[str]) -> None:
    done = CliRunner().invoke(root, words)
    assert done.exit_code == 2 and "Commands:" in done.output and "Error" not in done.output


@pytest.mark.parametrize("words", sorted(commands()))
def test_wrong_usage_as_json(words: str) -> None:
    done = CliRunner().invoke(root, [*words.split(), "--json", "--nonsense"])
    told = json.loads(done.stdout)
    assert done.exit_code == 2 == told["exit_code"] and done.stderr == ""
    assert "--nonsense" in told["message"] or "'" in told["message"]
    assert set(told) == {"error", "message", "hint", "exit_code", "facts"}


def test_no_option_takes_a_pin() -> None:
    for words, command in commands().items():
        for param in command.params:
            if isinstance(param, click.Option) and re.search("pin|puk", param.name or ""):
                assert param.is_flag, words


def test_json_behind_two_dashes_is_the_programs(shell: Shell) -> None:
    """`chipcash sim exec … -- program --json` asks for no JSON from chipcash."""
    done = shell.run("sim", "exec", "--card", "none.img", "--", "opensc-tool", "--json", code=2)
    assert done.stdout == "" and "none.img" in done.stderr


# Cards ------------------------------------------------------------------------------------------------


def test_card_info(shell: Shell) -> None:
    shell.run("sim", "new", str(shell.folder / "a.img"))
    assert shell.json("card", "info")["life"] == "blank"
    assert "blank" in shell.run("card", "info").stdout
    made = shell.json("card", "personalise", "--tier", "2", "--form", "esim")
    found = shell.json("card", "info")
    assert found["key_place"] == "flash"
    assert found["life"] == "personalised" and found["balance_fen"] is None
    for name in ("key", "network", "suite", "tier", "form", "certificate_expiry"):
        assert found[name] == made[name], name
    assert (found["network"], found["suite"], found["tier"], found["form"]) == (
        b"TEST".hex(),
        "p256",
        2,
        "esim",
    )
    assert found["limits"]["per_payment_fen"] == 100_000 and found["limits"]["sequence"] == 1
    text = shell.run("card", "info", "--pin").stdout
    assert "no secure element holds it" in text
    assert "balance:" in text and "0.00 yuan" in text and "esim, tier 2" in text
    assert made["puk"] not in text
    shell.json("card", "personalise", code=7)


def test_card_money(shell: Shell) -> None:
    shell.money("12.34")
    titles = shell.json("card", "titles")
    assert titles["balance_fen"] == 1234 == sum(x["fen"] for x in titles["titles"])
    (text,) = titles["titles"][0]["texts"]  # what the verification site takes
    assert qr.read([text], o.Title).serial.hex() == titles["titles"][0]["serial"]
    assert "12.34 yuan in all" in shell.run("card", "titles").stdout
    assert shell.run("card", "log").stdout == "This card has not paid yet.\n"
    shell.json("pos", "charge", "2.34")
    (paid,) = shell.json("card", "log")["payments"]
    assert paid["amount_fen"] == 234 and paid["payee"] == shell.json("pos", "balance")["key"]
    assert re.search(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d.*2\.34 yuan to ", shell.run("card", "log").stdout
    )


def test_card_of_another_network_is_found_out(shell: Shell) -> None:
    shell.money()
    assert shell.json("card", "check")["genuine"]
    done = shell.run("card", "check").stdout
    assert (
        done.startswith("Genuine: ") and f"firmware:    {runtime.build()} cpython, it says" in done
    )
    other = init(shell.folder / "other", "p256", b"TEST")
    told = shell.json("card", "check", "--network", str(other.network_file), code=11)
    assert told["error"] == "CardForged" and "forged" in told["hint"]
    other.center().close()
    told = shell.json("bank", "load", "1", "--home", str(other.directory), code=11)
    assert told["error"] == "CardForged"


def test_a_pin_is_typed_unseen_and_twice_when_new(shell: Shell) -> None:
    shell.run("sim", "new", str(shell.folder / "a.img"))
    shell.run("card", "personalise", typed="2580\n2581\n2580\n2580\n", CHIPCASH_PIN=None)
    done = shell.run("card", "titles", typed="2580\n", CHIPCASH_PIN=None)
    assert done.stdout.endswith("        0.00 yuan in all\n") and "2580" not in done.output
    done = shell.run("card", "change-pin", typed="2580\n1111\n1111\n", CHIPCASH_PIN=None)
    assert done.stdout.endswith("The PIN is changed.\n") and "1111" not in done.output
    shell.run("card", "titles", typed="2580\n", code=8, CHIPCASH_PIN=None)
    for wrong in ("12", "12345678901234", "12a4"):
        assert "digits" in shell.run("card", "titles", code=2, CHIPCASH_PIN=wrong).stderr
    assert shell.json("card", "info")["pin_tries"] == 2  # what cannot be right costs no try


# The till ---------------------------------------------------------------------------------------------


def test_a_till_has_to_be_synchronised_first(shell: Shell) -> None:
    shell.run("sim", "new", str(shell.folder / "a.img"))
    shell.json("pos", "init", str(shell.folder / "till"))
    told = shell.json("pos", "charge", "1", code=12)
    assert told["hint"] == "Synchronise the POS first."
    assert shell.json("pos", "last", code=12)["error"] == "PosError"


def test_amounts_above_the_free_limit_need_the_pin(shell: Shell) -> None:
    shell.money("400")
    told = shell.json("pos", "charge", "200.01", code=8)
    assert told["error"] == "PinError" and "--pin" in told["hint"]
    last = shell.json("pos", "last", code=1)
    assert last["paid"] is False and last["request"]["state"] == "CANCELLED"
    assert shell.run("pos", "last", code=1).stdout.startswith("No: 200.01 yuan at ")
    told = shell.json("pos", "charge", "200.01", "--pin", code=8, CHIPCASH_PIN="0000")
    assert told["facts"]["attempts_left"] == 2
    assert shell.json("pos", "charge", "200.01", "--pin")["paid"]
    assert shell.run("pos", "last").stdout.startswith("Yes: 200.01 yuan at ")


def test_a_lost_answer(shell: Shell) -> None:
    shell.money()
    card = str(shell.env["CHIPCASH_CARD"])
    told = shell.json("pos", "charge", "5", f"{card}?cut_after=2", code=13)
    nonce = told["facts"]["nonce"]
    last = shell.json("pos", "last", code=13)
    assert (last["paid"], last["request"]["nonce"]) == (None, nonce)
    assert "Nobody here knows" in shell.run("pos", "last", code=13).stdout
    assert nonce in shell.run("pos", "requests").stdout
    assert shell.json("pos", "balance")["open_fen"] == 500
    # Another customer, the same amount.
    fresh = shell.json("pos", "charge", "5", "--fresh")
    assert fresh["nonce"] != nonce and not fresh["repeated"]
    done = shell.json("pos", "retry", "--request", nonce)
    assert done["nonce"] == nonce and done["repeated"]
    assert shell.run("pos", "requests").stdout == "No open requests.\n"
    told = shell.json("pos", "give-up", "--request", nonce, code=12)
    assert told["facts"]["state"] == "ANSWERED"
    with_text = shell.run("pos", "charge", "6", f"{card}?cut_after=2", code=13).stderr
    assert "SAME card" in with_text
    assert "is given up" in shell.run("pos", "give-up").stdout
    assert shell.json("pos", "sync")["voids_sent"] == 1
    back = shell.json("card", "sync", "--pin")
    assert back["reclaimed_fen"] == 600 and back["balance_fen"] == 9000


def test_a_pin_goes_over_the_air_to_known_cards_only(shell: Shell) -> None:
    shell.money(tier="4")
    air = f"{shell.env['CHIPCASH_CARD']}?contactless=1"
    assert shell.json("card", "titles", air)["balance_fen"] == 10_000
    assert shell.json("pos", "charge", "60", air, "--pin")["amount_fen"] == 6_000
    assert shell.json("card", "sync", air, "--pin")["limits_renewed"]
    told = shell.json("card", "titles", air, code=2, CHIPCASH_NETWORK=None)
    assert "was not sent" in told["message"] and "--network" in told["hint"]
    shell.json("card", "change-pin", air, CHIPCASH_NEW_PIN="4321")
    assert shell.json("card", "titles", air, CHIPCASH_PIN="4321")["balance_fen"] == 4_000


def test_pending_stands_apart_with_its_deadline(shell: Shell) -> None:
    shell.money()
    shell.json("pos", "charge", "5")
    shell.json("pos", "charge", "6")
    text = shell.run("pos", "balance").stdout
    assert re.search(r"verified: +0\.00 yuan, which can be spent", text)
    assert re.search(r"pending: +11\.00 yuan Pending Repeat Payment Verification", text)
    assert (
        len(re.findall(r"yuan  deposit by \d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d:\d\d", text)) == 2
    )
    listed = shell.json("pos", "list", "--state", "pending")["payments"]
    assert [payment["amount_fen"] for payment in listed] == [600, 500]
    assert shell.json("pos", "list", "--state", "VERIFIED")["payments"] == []
    payment = listed[0]["nonce"]
    promise = shell.json(
        "pos", "refund", payment, "1", "--reference", "R", "--qr", f"{shell.folder}/promise.png"
    )
    assert (promise["state"], promise["amount_fen"]) == ("PROMISED", 100)
    assert qr.read(promise["texts"], o.RefundPromise).amount == 100
    assert (shell.folder / "promise.png").is_file() and len(promise["pictures"]) == 1
    again = shell.json("pos", "refund", payment, "1", "--reference", "R")
    assert again["nonce"] == promise["nonce"]
    assert "can be promised back" in shell.run("pos", "refund", payment, "9999", code=12).stderr
    assert "promised back: 1.00 yuan" in shell.run("pos", "balance").stdout
    (kept,) = shell.json("pos", "sync")["promises"]
    assert (kept["state"], kept["paid_fen"]) == ("KEPT", 100)
    assert "VERIFIED" in shell.run("pos", "list").stdout
    assert "KEPT" in shell.run("pos", "promises").stdout
    assert shell.json("pos", "balance")["verified_fen"] == 1000
    sent = shell.json("pos", "refund", payment, "1", "--reference", "R")
    assert sent["kind"] == "REFUND" and shell.json("pos", "balance")["verified_fen"] == 1000


def test_policy(shell: Shell) -> None:
    shell.money()
    assert shell.json("pos", "policy")["max_per_payment_fen"] == 50_000
    options = ("--max-payment", "10", "--blacklist-days", "1", "--max-card", "15")
    shell.json("pos", "policy", *options, "--max-pending", "99999", "--pending-days", "2")
    found = shell.json("pos", "policy")
    limits = found.pop("limits")
    assert (limits["max_pending_fen"], limits["max_per_card_fen"]) == (5_000_000, 1500)
    assert found.pop("rules")["guarantee_fen"] == 50_000
    assert found == {
        "max_per_payment_fen": 1000,
        "max_per_card_fen": 1500,
        "max_per_shift_fen": None,
        "max_pending_fen": 9_999_900,
        "pending_max_age": 2 * 86400,
        "least_time_to_deposit": 86400,
        "blacklist_max_age": 86400,
    }
    told = shell.json("pos", "charge", "10.01", code=12)
    assert told["facts"]["limit_fen"] == 1000
    shell.json("pos", "charge", "10")
    refused = shell.run("pos", "charge", "5.01", code=12).stderr
    assert "No card was asked" in refused and "Tell the customer: This shop has taken" in refused
    shell.json("pos", "policy", "--rules-only")
    shell.json("pos", "charge", "5.01")


def test_the_center_s_rules_reach_the_till(cli: Cli, server: Server) -> None:
    """Set in its home, where it reads them when it starts; an older till has none."""
    cli.json("pos", "init", "till")
    assert cli.json("pos", "policy")["rules"] is None
    assert cli.json("pos", "sync")["new_rules"]
    assert cli.json("center", "rules")["per_card_fen"] == 100_000
    told = cli.json("center", "rules", "--in-all", "20", "--pending-age", "24", "--guarantee", "0")
    assert (told["in_all_fen"], told["guarantee_fen"]) == (2000, 0)
    assert (told["pending_age"], told["changed"]) == (86400, True)
    assert "Restart" not in cli.run("center", "rules").stdout
    assert not cli.json("pos", "sync")["new_rules"]
    server.stop()
    server.start()
    assert cli.json("pos", "sync")["new_rules"]
    found = cli.json("pos", "policy")
    assert found["rules"]["guarantee_fen"] == 0
    assert (found["limits"]["max_pending_fen"], found["limits"]["pending_max_age"]) == (2000, 86400)
    (cli.folder / "network" / "parameters.json").write_text("{")
    assert "does not hold parameters" in cli.run("center", "rules", code=20).stderr


def test_an_order_that_the_center_did_not_answer_is_given_once(shell: Shell) -> None:
    shell.money()
    shell.json("pos", "charge", "50")
    shell.json("pos", "sync")
    bank = shell.json("bank", "balance")["key"]
    shell.offline()
    told = shell.json("pos", "spend", "20", bank, code=21)
    assert "do not give it again" in told["hint"] and "pos sync" in told["hint"]
    assert shell.json("pos", "balance")["leaving_fen"] == 2000
    assert "under way" in shell.run("pos", "transfers").stdout
    shell.online()
    (sent,) = shell.json("pos", "sync")["transfers"]
    assert (sent["kind"], sent["settled_fen"], sent["payee"]) == ("SPEND", 2000, bank)
    assert shell.json("bank", "sync")["received_fen"] == 2000
    shell.json("pos", "spend", "30.01", bank, code=15)
    assert shell.json("pos", "redeem", "10")["settled_fen"] == 1000
    found = shell.json("pos", "transfers")["transfers"]
    assert [(x["kind"], x["amount_fen"]) for x in found] == [("REDEEM", 1000), ("SPEND", 2000)]


# Banks ------------------------------------------------------------------------------------------------


def test_banks_complete_what_a_dead_line_left_undone(shell: Shell) -> None:
    shell.money("50")
    card = shell.json("card", "info")["key"]
    shell.json("bank", "reserve", "100")
    shell.offline()
    told = shell.json("bank", "issue", "60", code=21)
    assert "bank sync" in told["hint"] and "do not give it again" in told["hint"]
    assert shell.json("bank", "balance") == {
        "balance_fen": 0,
        "reserve_fen": 4000,
        "key": shell.json("bank", "balance")["key"],
    }
    shell.online()
    assert shell.json("bank", "sync")["received_fen"] == 6000
    shell.offline()
    assert "bank sync" in shell.json("bank", "load", "10", code=21)["hint"]
    shell.json("bank", "redeem", "20", code=21)
    shell.online()
    done = shell.json("bank", "sync")
    assert [(x["amount_fen"]) for x in done["completed"]] == [1000, 2000]
    assert (done["credited_fen"], done["balance_fen"]) == (2000, 3000)
    assert done["completed"][0]["payee"] == card
    assert shell.json("bank", "balance")["reserve_fen"] == 6000
    again = shell.json("bank", "sync")
    assert (again["completed"], again["credited_fen"], again["received_fen"]) == ([], 0, 0)
    assert shell.json("card", "sync", "--pin")["balance_fen"] == 6000
    assert shell.json("bank", "issue", "60.01", code=30)["facts"]["reason"] == "reserve"
    assert shell.json("bank", "redeem", "30.01", code=30)["facts"]["reason"] == "funds"
    assert shell.json("center", "check")["redeemed_fen"] == 2000


# The center -------------------------------------------------------------------------------------------


def test_a_coins_life_can_be_read(shell: Shell) -> None:
    shell.money("50")
    paid = shell.json("pos", "charge", "12")
    shell.json("pos", "sync")
    shell.json("pos", "redeem", "2")
    (title,) = shell.json("card", "titles")["titles"]
    coin = shell.json("center", "coin", title["serial"].upper())
    assert [(x["lo"], x["hi"], x["state"]) for x in coin["partition"]] == [
        (0, 200, "redeemed"),
        (200, 1200, "live"),
        (1200, 5000, "live"),
    ]
    text = shell.run("center", "coin", title["serial"]).stdout
    assert "of 50.00 yuan" in text and "fen 0 to 200 redeemed" in text and "issued fen 0" in text
    claim = shell.json("center", "claim", paid["claim_id"])
    assert claim["amount_fen"] == 1200 and claim["outcomes"][0]["state"] == "settled"
    assert "settled" in shell.run("center", "claim", paid["claim_id"]).stdout
    assert "redeemed:" in shell.run("center", "accounts").stdout
    assert shell.json("center", "claim", "00" * 32, code=22)["facts"]["name"] == "unknown"


def test_a_lost_card_is_blocked(shell: Shell) -> None:
    shell.money()
    key = shell.json("card", "info")["key"]
    assert shell.json("center", "blacklist")["entries"] == []
    assert shell.json("center", "block", key)["sequence"] == 1
    (entry,) = shell.json("center", "blacklist")["entries"]
    assert (entry["key"], entry["reason"], entry["evidence"]) == (key, "lost", None)
    assert f"{key} lost" in shell.run("center", "blacklist").stdout
    assert shell.json("center", "blacklist", "--since", "1")["entries"] == []
    shell.json("pos", "sync")
    assert shell.json("pos", "charge", "1", code=10)["facts"]["reason"] == "blacklisted"
    for wrong in ("04" + key[2:], key[2:], "zz" + key[2:]):
        shell.json("center", "block", wrong, code=2)
    assert shell.json("center", "blacklist")["sequence"] == 1


@pytest.mark.parametrize(
    ("network_id", "network"), [("TEST", "54455354"), ("54C0FFEE", "54c0ffee")]
)
def test_networks_are_named(shell: Shell, network_id: str, network: str) -> None:
    words = ["center", "init", str(shell.folder / "new"), "--suite", "gm"]
    made = shell.json(*words, "--network-id", network_id)
    assert (made["network"], made["suite"]) == (network, "gm")
    for wrong in ("TES", "TESTS", "\u00dcbel"):
        shell.json("center", "init", str(shell.folder / "x"), "--network-id", wrong, code=2)
    assert not (shell.folder / "x").exists()


# Evidence ---------------------------------------------------------------------------------------------


def test_evidence_by_claim_or_digest(shell: Shell) -> None:
    shell.money("10")
    shell.json("bank", "reserve", "10")
    shell.json("bank", "issue", "10")
    shell.json("bank", "load", "10")  # a second title, so that a payment can spend two
    clone = str(shell.folder / "clone.img")
    shell.json("sim", "clone", str(shell.folder / "a.img"), clone)
    first = shell.json("pos", "charge", "15")
    second = shell.json("pos", "charge", "15", f"sim:{clone}")
    assert len(shell.json("pos", "sync")["changes"]) == 2
    states = {x["claim_id"]: x["state"] for x in shell.json("pos", "list")["payments"]}
    assert states == {first["claim_id"]: "VERIFIED", second["claim_id"]: "DISPUTED"}
    out = str(shell.folder / "evidence.bin")
    told = shell.json("evidence", "fetch", first["claim_id"], "-o", out, code=1)
    assert told["error"] == "NoEvidence"
    told = shell.json("evidence", "fetch", second["claim_id"], "-o", out, code=1)
    digests = told["facts"]["digests"]
    assert len(digests) == 2 and all(digest in told["hint"] for digest in digests)
    fetched = shell.json("evidence", "fetch", digests[0], "-o", out)
    assert fetched["digest"] == digests[0]
    shell.json("evidence", "fetch", digests[1], "-o", out, code=1)  # nothing is written over
    found = shell.json("evidence", "verify", out)
    assert found["valid"] and first["claim_id"] in found["claims"]
    assert shell.run("evidence", "verify", out).stdout.startswith(
        f"Valid: the key {first['payer']}"
    )
    loss = shell.run("center", "claim", second["claim_id"]).stdout
    assert "The guarantee fund bears 15.00 yuan of the loss" in loss
    assert all(f"Evidence: {digest}" in loss for digest in digests)
    other = init(shell.folder / "other", "p256", b"TEST")
    told = shell.json("evidence", "verify", out, "--network", str(other.network_file), code=17)
    assert told["facts"]["reason"] == "title"
    assert shell.json("evidence", "fetch", "00" * 32, "-o", out, code=22)["facts"]["status"] == 404


def test_one_card_pays_another(shell: Shell) -> None:
    shell.money()
    mine, other = str(shell.env["CHIPCASH_CARD"]), f"sim:{shell.folder}/b.img"
    shell.json("sim", "new", str(shell.folder / "b.img"))
    shell.json("card", "personalise", other)
    shell.offline()
    told = shell.json("card", "send", "7", f"{mine}?cut_after=3", other, code=28)
    nonce = told["facts"]["nonce"]
    assert "may have paid" in told["message"] and nonce in told["hint"]
    done = shell.json("card", "send", "7", mine, other, "--request", nonce)
    assert (done["amount_fen"], done["nonce"]) == (700, nonce)
    info = shell.json("card", "info", other, "--pin")
    assert (info["balance_fen"], info["pending_fen"]) == (0, 700)
    assert "7.00 yuan, pending" in shell.run("card", "info", other, "--pin").stdout
    shell.online()
    text = shell.run("card", "sync", other, "--pin").stdout
    assert "Of what other cards had paid to it, 7.00 yuan are verified." in text
    info = shell.json("card", "info", other, "--pin")
    assert (info["balance_fen"], info["pending_fen"]) == (700, 0)
    assert shell.json("card", "info", "--pin")["balance_fen"] == 9_300
