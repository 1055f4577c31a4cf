# SPDX-License-Identifier: Apache-2.0
"""The ledger of format 2, of the first payment: one SQLite file, settled claim by claim."""

import sqlalchemy as sa
from alembic import op

from chipcash.center.migrations.columns import KEYED, STRICT, WHOLE, binary, whole

revision = "0001"
down_revision = None


def _seq() -> sa.Column[int]:
    return sa.Column("seq", WHOLE, sa.Identity(), primary_key=True)


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "coins",
        binary("serial"),
        whole("amount", sa.CheckConstraint("amount > 0")),
        binary("owner"),
        binary("bytes"),
        whole("epoch"),
        whole("time"),
        sa.PrimaryKeyConstraint("serial"),
        **KEYED,
    )
    op.create_table(
        "titles",
        _seq(),
        binary("title_id"),
        binary("serial", sa.ForeignKey("coins.serial")),
        whole("epoch"),
        whole("lo"),
        whole("hi"),
        binary("owner"),
        binary("bytes"),
        sa.UniqueConstraint("title_id"),
        sa.UniqueConstraint("serial", "epoch"),
        **STRICT,
    )
    op.create_index("titles_owner", "titles", ["owner"])
    op.create_table(
        "slices",
        binary("serial", sa.ForeignKey("coins.serial")),
        whole("lo", sa.CheckConstraint("lo >= 0")),
        whole("hi"),
        binary("title_id", sa.ForeignKey("titles.title_id"), null=True),
        sa.PrimaryKeyConstraint("serial", "lo"),
        sa.CheckConstraint("hi > lo"),
        **KEYED,
    )
    op.create_index("slices_title", "slices", ["title_id"])
    op.create_table(
        "claims",
        binary("claim_id"),
        binary("payer"),
        binary("bytes"),
        whole("time"),
        binary("result"),
        whole("fund"),
        whole("loss"),
        sa.PrimaryKeyConstraint("claim_id"),
        **KEYED,
    )
    op.create_table(
        "spends",
        _seq(),
        binary("serial", sa.ForeignKey("coins.serial")),
        binary("title_id", sa.ForeignKey("titles.title_id")),
        whole("lo"),
        whole("hi"),
        binary("claim_id", sa.ForeignKey("claims.claim_id"), null=True),
        whole("state"),
        binary("new_title", sa.ForeignKey("titles.title_id"), null=True),
        whole("time"),
        sa.UniqueConstraint("serial", "title_id", "lo"),
        sa.CheckConstraint("hi > lo"),
        **STRICT,
    )
    op.create_index("spends_claim", "spends", ["claim_id"])
    op.create_table(
        "inputs",
        _seq(),
        binary("serial", sa.ForeignKey("coins.serial")),
        binary("title_id", sa.ForeignKey("titles.title_id")),
        whole("lo"),
        whole("hi"),
        binary("claim_id", sa.ForeignKey("claims.claim_id")),
        sa.CheckConstraint("hi > lo"),
        **STRICT,
    )
    op.create_index("inputs_title", "inputs", ["serial", "title_id", "lo"])
    op.create_table(
        "deposits",
        binary("digest"),
        whole("time"),
        binary("receipt"),
        sa.PrimaryKeyConstraint("digest"),
        **KEYED,
    )
    op.create_table(
        "voids",
        binary("payee"),
        binary("nonce"),
        whole("amount"),
        binary("bytes"),
        whole("time"),
        sa.PrimaryKeyConstraint("payee", "nonce", "amount"),
        **KEYED,
    )
    op.create_table(
        "evidence",
        _seq(),
        binary("digest"),
        binary("bytes"),
        binary("claim_id", sa.ForeignKey("claims.claim_id")),
        whole("time"),
        sa.UniqueConstraint("digest"),
        **STRICT,
    )
    op.create_index("evidence_claim", "evidence", ["claim_id"])
    op.create_table(
        "blacklist",
        sa.Column("sequence", WHOLE, primary_key=True, autoincrement=False),
        binary("subject"),
        binary("bytes"),
        sa.UniqueConstraint("subject"),
        **STRICT,
    )
    op.create_table(
        "cards",
        binary("subject"),
        binary("certificate"),
        whole("sequence"),
        binary("risk"),
        sa.PrimaryKeyConstraint("subject"),
        **KEYED,
    )
    op.create_table(
        "challenges",
        binary("nonce"),
        binary("subject", sa.ForeignKey("cards.subject")),
        whole("time"),
        sa.PrimaryKeyConstraint("nonce"),
        **KEYED,
    )
