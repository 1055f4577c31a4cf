# SPDX-License-Identifier: Apache-2.0
"""From an empty folder to redemption, command by command, with a clone found out on the way."""

from __future__ import annotations

from tests.cli.conftest import PIN, Cli, Server


def make_money(cli: Cli) -> str:
    """100 yuan on a personalised card a.img; the card's key."""
    assert cli.json("bank", "reserve", "100")["reserve_fen"] == 10000
    issued = cli.json("bank", "issue", "100")
    assert (issued["amount_fen"], issued["balance_fen"]) == (10000, 10000)
    cli.json("sim", "new", "a.img")
    made = cli.json("card", "personalise", "sim:a.img", "--tier", "3")
    assert made["tier"] == 3 and len(made["puk"]) == 8
    loaded = cli.json("bank", "load", "100", "sim:a.img")
    assert loaded["key"] == made["key"]
    return str(made["key"])


def test_from_issue_to_redemption(cli: Cli, server: Server) -> None:
    card = make_money(cli)
    cli.json("sim", "clone", "a.img", "clone.img")
    till = cli.json("pos", "init", "till")["key"]
    cli.json("pos", "init", "other")
    for pos in ("till", "other"):
        assert cli.json("pos", "sync", CHIPCASH_POS=pos)["changes"] == []
    assert server.stop() == 0

    # Offline.
    assert cli.json("pos", "sync", code=21)["error"] == "CenterUnreachable"
    paid = cli.json("pos", "charge", "36.80", "sim:a.img?runtime=cpython")
    assert (paid["amount_fen"], paid["state"], paid["payer"]) == (3680, "PENDING", card)
    torn = cli.json("pos", "charge", "12", "sim:a.img?cut_after=2", code=13)
    assert cli.json("pos", "last", code=13)["paid"] is None
    assert [x["nonce"] for x in cli.json("pos", "requests")["requests"]] == [torn["facts"]["nonce"]]
    again = cli.json("pos", "charge", "12", "sim:a.img")
    assert again["repeated"] and again["nonce"] == torn["facts"]["nonce"]
    assert cli.json("pos", "last")["paid"] is True
    assert cli.json("card", "info", "sim:a.img", "--pin")["balance_fen"] == 10000 - 4880
    assert [x["amount_fen"] for x in cli.json("card", "log", "sim:a.img")["payments"]] == [
        1200,
        3680,
    ]
    balance = cli.json("pos", "balance")
    assert (balance["pending_fen"], balance["verified_fen"]) == (4880, 0)
    assert all(payment["deadline"] > payment["time"] for payment in balance["pending"])
    refused = cli.json("pos", "spend", "12", card, code=16)
    assert refused["error"] == "PendingMoney"
    copied = cli.json("pos", "charge", "20", "sim:clone.img", CHIPCASH_POS="other")

    # The network is back.
    server.start()
    synced = cli.json("pos", "sync")
    assert {change["state"] for change in synced["changes"]} == {"VERIFIED"}
    synced = cli.json("pos", "sync", CHIPCASH_POS="other")
    assert [change["state"] for change in synced["changes"]] == ["DISPUTED"]
    balance = cli.json("pos", "balance", CHIPCASH_POS="other")
    assert (balance["verified_fen"], balance["disputed_fen"]) == (0, 2000)
    cli.json("evidence", "fetch", copied["claim_id"], "-o", "evidence.bin")
    proof = cli.json("evidence", "verify", "evidence.bin")
    assert proof["valid"] and proof["payer"] == card and proof["overlap"] == [0, 2000]
    refused = cli.json("pos", "charge", "1", "sim:clone.img", code=10, CHIPCASH_POS="other")
    assert refused["facts"]["reason"] == "blacklisted"
    assert cli.json("pos", "give-up", CHIPCASH_POS="other")["voided"]
    entries = cli.json("center", "blacklist")["entries"]
    assert [(x["key"], x["reason"]) for x in entries] == [(card, "repeat payment")]

    # Money out, in three ways.
    assert cli.json("pos", "refund", paid["claim_id"], "1.80")["settled_fen"] == 180
    bank = cli.json("bank", "balance")["key"]
    sent = cli.json("pos", "spend", "20", bank, "--reference", "rent")
    assert cli.json("pos", "spend", "20", bank, "--reference", "rent")["nonce"] == sent["nonce"]
    assert cli.json("bank", "sync")["balance_fen"] == 2000
    assert cli.json("bank", "redeem", "5")["reserve_fen"] == 500
    redeemed = cli.json("pos", "redeem")
    assert redeemed["settled_fen"] == 4880 - 180 - 2000
    assert cli.json("pos", "balance")["verified_fen"] == 0

    # The day's accounts.
    accounts = cli.json("center", "accounts")
    assert accounts["issued_fen"] == 10000 == accounts["live_fen"] + accounts["redeemed_fen"]
    assert accounts["owners"] == {card: 10000 - 4880 + 180, bank: 1500}
    assert till not in accounts["owners"]
    assert cli.json("center", "check")["conserved"]
    assert server.stop() == 0
    assert PIN not in cli.printed


def test_a_card_is_synchronised(cli: Cli, server: Server) -> None:
    card = make_money(cli)
    cli.json("bank", "reserve", "10")
    cli.json("bank", "issue", "10")
    # Paid out, but the card was gone before its title reached it: SELECT, proof, then nothing.
    lost = cli.json("bank", "load", "10", "sim:a.img?cut_before=3", code=6)
    assert "card sync" in lost["hint"]
    assert cli.json("card", "titles", "sim:a.img")["balance_fen"] == 10000
    done = cli.json("card", "sync", "sim:a.img", "--pin")
    assert (done["loaded_fen"], done["balance_fen"]) == (1000, 11000)
    assert done["limits_renewed"] and done["reclaimed_fen"] == 0
    again = cli.json("card", "sync", "sim:a.img")
    assert (again["loaded"], again["limits_renewed"]) == (0, False)
    assert "add --pin" in cli.run("card", "sync", "sim:a.img").stdout
    assert cli.json("card", "check", "sim:a.img")["key"] == card
    # A lost card gets no new limits.
    cli.json("center", "block", card)
    done = cli.json("card", "sync", "sim:a.img", "--pin", code=22)
    assert not done["limits_renewed"] and "blacklist" in done["refused"]


def test_pin_and_puk(cli: Cli, server: Server) -> None:
    cli.json("sim", "new", "a.img")
    puk = cli.json("card", "personalise", "sim:a.img")["puk"]
    wrong = {"CHIPCASH_PIN": "9999"}
    for left in (2, 1, 0):
        refused = cli.json("card", "titles", "sim:a.img", code=8, **wrong)
        assert refused["facts"]["attempts_left"] == left
    assert "blocked" in cli.json("card", "titles", "sim:a.img", code=8)["message"]
    cli.json("card", "unblock", "sim:a.img", CHIPCASH_PUK=puk, CHIPCASH_NEW_PIN="1111")
    cli.json("card", "change-pin", "sim:a.img", CHIPCASH_PIN="1111", CHIPCASH_NEW_PIN="222222")
    cli.json("card", "titles", "sim:a.img", CHIPCASH_PIN="222222")
    cli.printed = cli.printed.replace(puk, "", 1)
    done = cli.run("-vvv", "card", "titles", "sim:a.img", CHIPCASH_PIN="222222")
    assert "0020008" in done.stderr and "not logged" in done.stderr  # VERIFY, without its data
    assert "323232323232" not in done.stderr
    for secret in (PIN, "222222", "1111", puk):
        assert secret not in cli.printed
