"""The configuration: categories, sources and their entries, groups, networks, exceptions, tokens, audit."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

ROW_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")
KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Create every table, and the one row of the versions."""
    _create_state()
    _create_lists()
    _create_groups()
    _create_exceptions()
    _create_tokens_and_audit()


def _create_state() -> None:
    state = op.create_table(
        "state",
        sa.Column(
            "id", sa.Integer, sa.CheckConstraint("id = 1", name="one_row"), primary_key=True, autoincrement=False
        ),
        sa.Column("policy_version", sa.BigInteger, nullable=False),
        sa.Column("entries_version", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(state, [{"id": 1, "policy_version": 1, "entries_version": 1}])


def _create_lists() -> None:
    op.create_table(
        "categories",
        sa.Column("key", sa.String(63), primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("clause", sa.Text, nullable=False),
        sa.Column("kind", sa.String(5), nullable=False),
        sa.Column("severity", sa.Integer, nullable=False),
    )
    op.create_table(
        "sources",
        sa.Column("id", ROW_ID, primary_key=True),
        sa.Column("key", sa.String(63), nullable=False, unique=True),
        sa.Column("location", sa.Text, nullable=False),
        sa.Column("format", sa.String(16), nullable=False),
        sa.Column("category", sa.String(63), sa.ForeignKey("categories.key"), nullable=False),
        sa.Column("scope", sa.String(16)),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("allow_private", sa.Boolean, nullable=False),
        sa.Column("allow_public_suffix", sa.Boolean, nullable=False),
        sa.Column("interval_seconds", sa.BigInteger, nullable=False),
        sa.Column("starter", sa.Boolean, nullable=False),
        sa.Column("licence", sa.Text, nullable=False),
        sa.Column("homepage", sa.Text, nullable=False),
        sa.Column("etag", sa.Text, nullable=False),
        sa.Column("last_modified", sa.Text, nullable=False),
        sa.Column("content_hash", sa.Text, nullable=False),
        sa.Column("rules", sa.BigInteger, nullable=False),
        sa.Column("rejected", sa.BigInteger, nullable=False),
        sa.Column("last_attempt_at", sa.BigInteger),
        sa.Column("last_success_at", sa.BigInteger),
        sa.Column("last_error", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "traits",
        sa.Column("id", ROW_ID, primary_key=True),
        sa.Column("scope", sa.String(16), nullable=False),
        sa.Column("action", sa.String(8), nullable=False),
        sa.Column("important", sa.Boolean, nullable=False),
        sa.Column("types", sa.Text, nullable=False),
        sa.Column("unless", sa.Text, nullable=False),
    )
    op.create_table(
        "entries",
        sa.Column("source_id", ROW_ID, primary_key=True, autoincrement=False),
        sa.Column("key", KEY, primary_key=True),
        sa.Column("traits_id", ROW_ID, primary_key=True, autoincrement=False),
        sqlite_with_rowid=False,
    )


def _create_groups() -> None:
    op.create_table(
        "groups",
        sa.Column("name", sa.String(63), primary_key=True),
        sa.Column("mode", sa.String(16), nullable=False),
        sa.Column("addresses", sa.JSON, nullable=False),
    )
    op.create_table(
        "group_blocks",
        sa.Column("group", sa.String(63), sa.ForeignKey("groups.name"), primary_key=True),
        sa.Column("category", sa.String(63), sa.ForeignKey("categories.key"), primary_key=True),
    )
    op.create_table(
        "networks",
        sa.Column("cidr", sa.String(49), primary_key=True),
        sa.Column("group", sa.String(63), sa.ForeignKey("groups.name"), nullable=False),
        sa.Column("site", sa.Text, nullable=False),
    )


def _create_exceptions() -> None:
    op.create_table(
        "exceptions",
        sa.Column("id", ROW_ID, primary_key=True),
        sa.Column("domain", sa.String(253), nullable=False, index=True),
        sa.Column("action", sa.String(8), nullable=False),
        sa.Column("match", sa.String(16), nullable=False),
        sa.Column("groups", sa.JSON, nullable=False),
        sa.Column("clients", sa.JSON, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("requested_by", sa.Text, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.Column("approved_by", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger),
        sa.Column("revoked_at", sa.BigInteger),
        sa.Column("revoked_by", sa.Text),
        sqlite_autoincrement=True,
    )


def _create_tokens_and_audit() -> None:
    op.create_table(
        "tokens",
        sa.Column("name", sa.String(63), primary_key=True),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("secret_sha256", sa.LargeBinary(32), nullable=False, unique=True),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("last_used_at", sa.BigInteger),
        sa.Column("revoked_at", sa.BigInteger),
    )
    op.create_table(
        "audit",
        sa.Column("id", ROW_ID, primary_key=True),
        sa.Column("time", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("action", sa.String(63), nullable=False),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("before", sa.JSON(none_as_null=True)),
        sa.Column("after", sa.JSON(none_as_null=True)),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_audit_actor_id"), "audit", ["actor", "id"])
    op.create_index(op.f("ix_audit_target_id"), "audit", ["target", "id"])
