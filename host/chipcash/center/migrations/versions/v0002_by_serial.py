# SPDX-License-Identifier: Apache-2.0
"""A ledger that settles batches, and splits by serial.

- `serial` leads every key of what moves, and no key or reference joins two serials.
- Every registered fact has a number of one sequence (`seq`): what came before what, over all tables.
- Claims are referred to by that number. `inputs` holds only what did not settle: what did is in `spends`.
"""

import bisect
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

from chipcash.center.migrations.columns import KEYED, STRICT, binary, whole
from chipcash_wire import objects as o

revision = "0002"
down_revision = "0001"

_CHANGED = (
    "coins",
    "titles",
    "slices",
    "claims",
    "spends",
    "inputs",
    "voids",
    "evidence",
    "blacklist",
)

_COINS = "serial, amount, owner, bytes, epoch, time, recoined"


def upgrade() -> None:
    """Make the new tables, fill them from the old ones, remove those."""
    for index in ("titles_owner", "slices_title", "spends_claim", "inputs_title", "evidence_claim"):
        op.drop_index(index)
    for table in _CHANGED:
        op.rename_table(table, f"old_{table}")
    _create()
    _fill(op.get_bind())
    for table in reversed(_CHANGED):
        op.drop_table(f"old_{table}")
    if op.get_bind().dialect.name == "sqlite":
        op.execute("PRAGMA user_version = 3")


def _create() -> None:
    # next: number of the next fact. There is one row.
    op.create_table("sequence", whole("next"), **STRICT)
    # epoch: of the newest title of this serial. recoined: 1 if the center made it of other coins, else 0.
    op.create_table(
        "coins",
        binary("serial"),
        whole("seq"),
        whole("amount", sa.CheckConstraint("amount > 0")),
        binary("owner"),
        binary("bytes"),
        whole("epoch"),
        whole("time"),
        whole("recoined"),
        sa.PrimaryKeyConstraint("serial", name="coins_key"),
        **STRICT,
    )
    op.create_table(
        "titles",
        binary("serial", sa.ForeignKey("coins.serial")),
        whole("epoch"),
        whole("seq"),
        binary("title_id"),
        whole("lo"),
        whole("hi"),
        binary("owner"),
        binary("bytes"),
        whole("time"),
        sa.PrimaryKeyConstraint("serial", "epoch", name="titles_key"),
        **STRICT,
    )
    op.create_index("titles_id", "titles", ["title_id"])
    op.create_index("titles_owner", "titles", ["owner"])
    # The partition of every coin. title_id is null where the slice is redeemed.
    op.create_table(
        "slices",
        binary("serial", sa.ForeignKey("coins.serial")),
        whole("lo", sa.CheckConstraint("lo >= 0")),
        whole("hi"),
        binary("title_id", null=True),
        sa.PrimaryKeyConstraint("serial", "lo", name="slices_key"),
        sa.CheckConstraint("hi > lo"),
        **KEYED,
    )
    op.create_index("slices_title", "slices", ["title_id"])
    # Every claim that verified, with its first outcome (a wire result). fund, loss: fen of it that are
    # disputed, by who bears them: the guarantee fund, the payee.
    op.create_table(
        "claims",
        binary("claim_id"),
        whole("seq"),
        binary("payer"),
        binary("bytes"),
        whole("time"),
        binary("result"),
        whole("fund"),
        whole("loss"),
        sa.PrimaryKeyConstraint("claim_id", name="claims_key"),
        **STRICT,
    )
    op.create_index("claims_seq", "claims", ["seq"])
    # What left a title. claim (its seq) is null where an expired title was renewed, new_title where the
    # money was redeemed. The spends of one title never overlap.
    op.create_table(
        "spends",
        binary("serial", sa.ForeignKey("coins.serial")),
        binary("title_id"),
        whole("lo"),
        whole("hi"),
        whole("seq"),
        whole("claim", null=True),
        whole("state"),
        binary("new_title", null=True),
        whole("time"),
        sa.PrimaryKeyConstraint("serial", "title_id", "lo", name="spends_key"),
        sa.CheckConstraint("hi > lo"),
        **STRICT,
    )
    op.create_index("spends_claim", "spends", ["claim"])
    # The intervals of registered claims that did not move when the claim was registered. With `spends`,
    # what repeat payment is found by.
    op.create_table(
        "inputs",
        binary("serial", sa.ForeignKey("coins.serial")),
        binary("title_id"),
        whole("lo"),
        whole("hi"),
        whole("claim"),
        sa.PrimaryKeyConstraint("serial", "title_id", "lo", "claim", name="inputs_key"),
        sa.CheckConstraint("hi > lo"),
        **KEYED,
    )
    op.create_table(
        "voids",
        binary("payee"),
        binary("nonce"),
        whole("amount"),
        whole("seq"),
        binary("bytes"),
        whole("time"),
        sa.PrimaryKeyConstraint("payee", "nonce", "amount", name="voids_key"),
        **STRICT,
    )
    # claim: the later of the two claims; one piece of evidence for each title on which it overlaps.
    op.create_table(
        "evidence",
        binary("digest"),
        whole("seq"),
        binary("bytes"),
        whole("claim"),
        whole("time"),
        sa.PrimaryKeyConstraint("digest", name="evidence_key"),
        **STRICT,
    )
    op.create_index("evidence_claim", "evidence", ["claim"])
    # Every certificate that a card was registered with; the newest one is in `cards` too.
    op.create_table(
        "certificates",
        binary("subject"),
        whole("seq"),
        binary("bytes"),
        whole("time"),
        sa.PrimaryKeyConstraint("subject", "seq", name="certificates_key"),
        **KEYED,
    )
    op.create_table(
        "blacklist",
        whole("sequence"),
        whole("seq"),
        binary("subject"),
        binary("bytes"),
        sa.PrimaryKeyConstraint("sequence", name="blacklist_key"),
        sa.UniqueConstraint("subject", name="blacklist_subject"),
        **STRICT,
    )
    for table in ("coins", "titles", "spends", "voids", "evidence", "certificates", "blacklist"):
        op.create_index(f"{table}_seq", table, ["seq"])


def _fill(db: sa.Connection) -> None:
    """Copy the rows; facts get their numbers in an order in which they can have been registered."""
    number = {fact: at for at, fact in enumerate(_facts(db), 1)}
    _insert(db, "sequence", [(len(number) + 1,)])
    rows = db.execute(sa.text("SELECT serial, amount, owner, bytes, epoch, time, 0 FROM old_coins"))
    _insert(db, "coins", [(number["coins", row[0]], *row) for row in rows], f"seq, {_COINS}")
    for table, columns, key in (
        ("claims", "claim_id, payer, bytes, time, result, fund, loss", "claim_id"),
        ("blacklist", "sequence, subject, bytes", "subject"),
    ):
        rows = db.execute(sa.text(f"SELECT {key}, {columns} FROM old_{table}"))
        _insert(db, table, [(number[table, row[0]], *row[1:]) for row in rows], f"seq, {columns}")
    made = dict(
        [
            *db.execute(
                sa.text(
                    "SELECT titles.title_id, coins.time FROM old_titles AS titles"
                    " JOIN old_coins AS coins ON coins.serial = titles.serial WHERE titles.epoch = 1"
                )
            ),
            *db.execute(sa.text("SELECT new_title, time FROM old_spends")),
        ]
    )
    columns = "title_id, serial, epoch, lo, hi, owner, bytes"
    rows = db.execute(sa.text(f"SELECT {columns} FROM old_titles"))
    _insert(
        db,
        "titles",
        [(number["titles", row[0]], made[row[0]], *row) for row in rows],
        f"seq, time, {columns}",
    )
    _insert(
        db,
        "certificates",
        [
            (subject, number["certificates", subject], data, o.RiskParameters.decode(risk).time)
            for subject, data, risk in db.execute(
                sa.text("SELECT subject, certificate, risk FROM cards")
            )
        ],
    )
    columns = "payee, nonce, amount, bytes, time"
    rows = db.execute(sa.text(f"SELECT {columns} FROM old_voids"))
    _insert(
        db, "voids", [(number["voids", tuple(row[:3])], *row) for row in rows], f"seq, {columns}"
    )
    _insert(db, "slices", db.execute(sa.text("SELECT serial, lo, hi, title_id FROM old_slices")))
    columns = "serial, title_id, lo, hi, state, new_title, time"
    rows = db.execute(sa.text(f"SELECT seq, claim_id, {columns} FROM old_spends"))
    _insert(
        db,
        "spends",
        [(number["spends", row[0]], number.get(("claims", row[1])), *row[2:]) for row in rows],
        f"seq, claim, {columns}",
    )
    columns = "digest, bytes, time"
    rows = db.execute(sa.text(f"SELECT claim_id, {columns} FROM old_evidence"))
    _insert(
        db,
        "evidence",
        [(number["evidence", row[1]], number["claims", row[0]], *row[1:]) for row in rows],
        f"seq, claim, {columns}",
    )
    # Also those that did settle, where they were expired or voided before: what did not at first.
    stayed = set()
    for claim_id, result in db.execute(sa.text("SELECT claim_id, result FROM old_claims")):
        for outcome in o.Result.decode(result).outcomes:
            if outcome.state not in (o.SETTLED, o.RECLAIMED):
                stayed.add((claim_id, outcome.title_id, outcome.lo))
    rows = db.execute(sa.text("SELECT claim_id, title_id, lo, hi, serial FROM old_inputs"))
    _insert(
        db,
        "inputs",
        [
            (serial, title_id, lo, hi, number["claims", claim_id])
            for claim_id, title_id, lo, hi, serial in rows
            if (claim_id, title_id, lo) in stayed
        ],
        "serial, title_id, lo, hi, claim",
    )


def _facts(db: sa.Connection) -> Iterator[tuple[str, Any]]:
    """Table and key of each fact. Old tables count apart: a claim came before its first spend, and before
    every claim behind it; how much before is not known, and does not matter."""
    spends = db.execute(
        sa.text("SELECT seq, claim_id, new_title, time FROM old_spends ORDER BY seq")
    ).all()
    claims = db.execute(
        sa.text(
            "SELECT claims.claim_id, claims.time FROM old_claims AS claims JOIN old_inputs AS inputs"
            " ON inputs.claim_id = claims.claim_id GROUP BY claims.claim_id, claims.time"
            " ORDER BY MIN(inputs.seq)"
        )
    ).all()
    voids = [
        (time, tuple(key))
        for time, *key in db.execute(
            sa.text("SELECT time, payee, nonce, amount FROM old_voids ORDER BY time, nonce")
        )
    ]
    accused: dict[bytes, list[bytes]] = {}
    for claim_id, digest in db.execute(
        sa.text("SELECT claim_id, digest FROM old_evidence ORDER BY seq")
    ):
        accused.setdefault(claim_id, []).append(digest)
    listed = db.execute(sa.text("SELECT subject FROM old_blacklist ORDER BY sequence")).all()

    for (subject,) in db.execute(sa.text("SELECT subject FROM cards ORDER BY subject")):
        yield "certificates", subject
    for (serial,) in db.execute(sa.text("SELECT serial FROM old_coins ORDER BY serial")):
        yield "coins", serial
    for (title_id,) in db.execute(
        sa.text("SELECT title_id FROM old_titles WHERE epoch = 1 ORDER BY seq")
    ):
        yield "titles", title_id
    moved: dict[bytes, int] = {}
    for at, (_, claim_id, _, _) in enumerate(spends):
        moved.setdefault(claim_id, at)
    latest = len(spends)
    places = []
    for claim_id, _ in reversed(claims):
        latest = min(latest, moved.get(claim_id, latest))
        places.append(latest)
    places.reverse()
    ready: set[bytes] = set()
    done = 0
    for at in range(len(spends) + 1):
        until = bisect.bisect_right(places, at)
        for claim_id, time in claims[done:until]:
            while voids and voids[0][0] <= time:
                yield "voids", voids.pop(0)[1]
            yield "claims", claim_id
            for digest in accused.get(claim_id, ()):
                yield "evidence", digest
        done = until
        if at < len(spends):
            seq, _, new, _ = spends[at]
            if new is not None and new not in ready:
                ready.add(new)
                yield "titles", new
            yield "spends", seq
    for _, key in voids:
        yield "voids", key
    for (subject,) in listed:
        yield "blacklist", subject


def _insert(db: sa.Connection, table: str, rows: Any, columns: str = "") -> None:
    rows = [tuple(row) for row in rows]
    if rows:
        names = [f"v{at}" for at in range(len(rows[0]))]
        statement = f"INSERT INTO {table}{f' ({columns})' if columns else ''} VALUES "
        statement += f"({', '.join(f':{name}' for name in names)})"
        db.execute(sa.text(statement), [dict(zip(names, row, strict=True)) for row in rows])
