"""The tables. Times are microseconds since the epoch, UTC."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

REVISION = "0002"
"""The newest in `storage.migrations`, which leads to these tables."""

# Every constraint has a name that a later migration can drop it by, the same in both databases.
NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

metadata = MetaData(naming_convention=NAMING)

# SQLite numbers rows by itself in a column declared INTEGER and no other.
ROW_ID = BigInteger().with_variant(Integer, "sqlite")
# Octet order, as SQLite's own: prefixes of a key then lie beside it, and comparing costs no locale.
KEY = Text().with_variant(Text(collation="C"), "postgresql")

state = Table(
    "state",
    metadata,
    Column("id", Integer, CheckConstraint("id = 1", name="one_row"), primary_key=True, autoincrement=False),
    Column("policy_version", BigInteger, nullable=False),
    Column("entries_version", BigInteger, nullable=False),
)

categories = Table(
    "categories",
    metadata,
    Column("key", String(63), primary_key=True),
    Column("name", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("clause", Text, nullable=False),
    Column("kind", String(5), nullable=False),
    Column("severity", Integer, nullable=False),
)

sources = Table(
    "sources",
    metadata,
    Column("id", ROW_ID, primary_key=True),
    Column("key", String(63), nullable=False, unique=True),
    Column("location", Text, nullable=False),
    Column("mirrors", JSON, nullable=False),
    Column("format", String(16), nullable=False),
    Column("category", String(63), ForeignKey("categories.key"), nullable=False),
    Column("scope", String(16)),
    Column("enabled", Boolean, nullable=False),
    Column("allow_private", Boolean, nullable=False),
    Column("allow_public_suffix", Boolean, nullable=False),
    Column("interval_seconds", BigInteger, nullable=False),
    Column("stale_seconds", BigInteger, nullable=False),
    Column("starter", Boolean, nullable=False),
    Column("licence", Text, nullable=False),
    Column("homepage", Text, nullable=False),
    Column("fetched_from", Text, nullable=False),
    Column("etag", Text, nullable=False),
    Column("last_modified", Text, nullable=False),
    Column("content_hash", Text, nullable=False),
    Column("reader", Integer, nullable=False),
    Column("version", Integer, nullable=False),
    Column("writing_ahead", Boolean, nullable=False),
    Column("rules", BigInteger, nullable=False),
    Column("rejected", BigInteger, nullable=False),
    Column("last_attempt_at", BigInteger),
    Column("last_success_at", BigInteger),
    Column("last_error", Text, nullable=False),
    sqlite_autoincrement=True,
)

# What the entries of a source hang on: one part without a name, or one for each directory of an archive. A part whose
# source was removed has none, until its entries are gone too.
parts = Table(
    "parts",
    metadata,
    Column("id", ROW_ID, primary_key=True),
    Column("source_id", ROW_ID, index=True),
    Column("name", Text, nullable=False),
    Column("category", String(63), ForeignKey("categories.key")),
    Column("rules", BigInteger, nullable=False),
    sqlite_autoincrement=True,  # an index compiled earlier may still name a part that was removed
)

# What a source held when. Kept for as long as somebody may ask.
versions = Table(
    "versions",
    metadata,
    Column("source_id", ROW_ID, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("content_hash", Text, nullable=False),
    Column("rules", BigInteger, nullable=False),
    Column("rejected", BigInteger, nullable=False),
    Column("added", BigInteger, nullable=False),
    Column("removed", BigInteger, nullable=False),
    Column("restored", Integer),
)

# No uniqueness constraint: `unless` outgrows what Postgres can index, and `entries` adds rows under the lock.
traits = Table(
    "traits",
    metadata,
    Column("id", ROW_ID, primary_key=True),
    Column("scope", String(16), nullable=False),
    Column("action", String(8), nullable=False),
    Column("important", Boolean, nullable=False),
    Column("types", Text, nullable=False),  # separated by blanks, which neither a type nor a name holds
    Column("unless", Text, nullable=False),
)

# Listed from version `since` of the source on, until version `until` (NULL: still). No foreign keys: checking millions
# of rows, one by one, for what `loading` alone writes.
entries = Table(
    "entries",
    metadata,
    Column("part_id", ROW_ID, primary_key=True, autoincrement=False),
    Column("key", KEY, primary_key=True),
    Column("traits_id", ROW_ID, primary_key=True, autoincrement=False),
    Column("since", Integer, primary_key=True, autoincrement=False),
    Column("until", Integer),
    sqlite_with_rowid=False,
)

groups = Table(
    "groups",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("mode", String(16), nullable=False),
    Column("addresses", JSON, nullable=False),
)

group_blocks = Table(
    "group_blocks",
    metadata,
    Column("group", String(63), ForeignKey("groups.name"), primary_key=True),
    Column("category", String(63), ForeignKey("categories.key"), primary_key=True),
)

networks = Table(
    "networks",
    metadata,
    Column("cidr", String(49), primary_key=True),
    Column("group", String(63), ForeignKey("groups.name"), nullable=False),
    Column("site", Text, nullable=False),
)

# Groups and clients are kept as they were given: an exception's history must outlive the groups that it names.
exceptions = Table(
    "exceptions",
    metadata,
    Column("id", ROW_ID, primary_key=True),
    Column("domain", String(253), nullable=False, index=True),
    Column("action", String(8), nullable=False),
    Column("match", String(16), nullable=False),
    Column("groups", JSON, nullable=False),
    Column("clients", JSON, nullable=False),
    Column("reason", Text, nullable=False),
    Column("requested_by", Text, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("approved_by", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("revoked_at", BigInteger),
    Column("revoked_by", Text),
    sqlite_autoincrement=True,  # the log names exceptions by id for as long as it is kept
)

tokens = Table(
    "tokens",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("role", String(16), nullable=False),
    Column("secret_sha256", LargeBinary(32), nullable=False, unique=True),
    Column("created_at", BigInteger, nullable=False),
    Column("last_used_at", BigInteger),
    Column("revoked_at", BigInteger),
)

audit = Table(
    "audit",
    metadata,
    Column("id", ROW_ID, primary_key=True),
    Column("time", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", String(63), nullable=False),
    Column("target", Text, nullable=False),
    Column("before", JSON(none_as_null=True)),
    Column("after", JSON(none_as_null=True)),
    Index(None, "actor", "id"),
    Index(None, "target", "id"),
    sqlite_autoincrement=True,
)
