"""Lists by version: what a source held when, parts with categories of their own, mirrors, limits of staleness."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

ROW_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")
KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Make what each source holds now its version 1."""
    _extend_sources()
    _create_parts()
    _create_versions()
    _rewrite_entries()


def _extend_sources() -> None:
    new: tuple[sa.Column[object], ...] = (
        sa.Column("mirrors", sa.JSON, nullable=False, server_default="[]"),
        sa.Column("stale_seconds", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("fetched_from", sa.Text, nullable=False, server_default=""),
        sa.Column("reader", sa.Integer, nullable=False, server_default="0"),
        sa.Column("version", sa.Integer, nullable=False, server_default="0"),
        sa.Column("writing_ahead", sa.Boolean, nullable=False, server_default=sa.false()),
    )
    for column in new:
        op.add_column("sources", column)
    op.execute("UPDATE sources SET stale_seconds = 3 * interval_seconds, fetched_from = location")
    op.execute("UPDATE sources SET version = 1 WHERE last_success_at IS NOT NULL")


def _create_parts() -> None:
    op.create_table(
        "parts",
        sa.Column("id", ROW_ID, primary_key=True),
        sa.Column("source_id", ROW_ID, index=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("category", sa.String(63), sa.ForeignKey("categories.key")),
        sa.Column("rules", sa.BigInteger, nullable=False),
        sqlite_autoincrement=True,
    )
    # A source's one part has its number: the index that is compiled stays right.
    op.execute("INSERT INTO parts (id, source_id, name, category, rules) SELECT id, id, '', NULL, rules FROM sources")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("SELECT setval(pg_get_serial_sequence('parts', 'id'), (SELECT max(id) + 1 FROM parts), false)")
    else:  # numbers of sources that were removed may still stand in the index
        op.execute(
            "UPDATE sqlite_sequence SET seq = (SELECT seq FROM sqlite_sequence WHERE name = 'sources')"
            " WHERE name = 'parts'"
        )


def _create_versions() -> None:
    op.create_table(
        "versions",
        sa.Column("source_id", ROW_ID, primary_key=True, autoincrement=False),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("content_hash", sa.Text, nullable=False),
        sa.Column("rules", sa.BigInteger, nullable=False),
        sa.Column("rejected", sa.BigInteger, nullable=False),
        sa.Column("added", sa.BigInteger, nullable=False),
        sa.Column("removed", sa.BigInteger, nullable=False),
        sa.Column("restored", sa.Integer),
    )
    op.execute(
        "INSERT INTO versions"
        " (source_id, number, at, actor, content_hash, rules, rejected, added, removed, restored)"
        " SELECT id, 1, last_success_at, 'upgrade', content_hash, rules, rejected, rules, 0, NULL"
        " FROM sources WHERE version = 1"
    )


def _rewrite_entries() -> None:
    """Give every entry its first version; SQLite can't change a primary key, so the rows move to a new table."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE entries RENAME COLUMN source_id TO part_id")
        op.execute("ALTER TABLE entries ADD COLUMN since integer NOT NULL DEFAULT 1, ADD COLUMN until integer")
        op.execute("ALTER TABLE entries ALTER COLUMN since DROP DEFAULT")
        op.execute("ALTER TABLE entries DROP CONSTRAINT pk_entries")
        op.execute("ALTER TABLE entries ADD CONSTRAINT pk_entries PRIMARY KEY (part_id, key, traits_id, since)")
        return
    op.execute("ALTER TABLE entries RENAME TO entries_before")
    op.create_table(
        "entries",
        sa.Column("part_id", ROW_ID, primary_key=True, autoincrement=False),
        sa.Column("key", KEY, primary_key=True),
        sa.Column("traits_id", ROW_ID, primary_key=True, autoincrement=False),
        sa.Column("since", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("until", sa.Integer),
        sqlite_with_rowid=False,
    )
    op.execute("INSERT INTO entries SELECT source_id, key, traits_id, 1, NULL FROM entries_before")
    op.execute("DROP TABLE entries_before")
