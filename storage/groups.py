"""Groups of clients: how a blocked name is answered to them, and which categories are blocked."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from sqlalchemy import Connection, select

from storage import audit, categories, schema
from storage.checks import Checks, address, key, many, one_of
from storage.database import Change
from storage.errors import ConflictError, InvalidError, NotFoundError

MAX_ADDRESSES = 16


class Mode(StrEnum):
    """How a blocked name is answered."""

    NULL = "null"
    NXDOMAIN = "nxdomain"
    NODATA = "nodata"
    REFUSED = "refused"
    ADDRESS = "address"


@dataclass(frozen=True)
class Group:
    """One group."""

    name: str
    mode: str = Mode.NULL
    addresses: tuple[str, ...] = ()
    """What a blocked name resolves to in mode `address`; empty in every other."""
    blocked: tuple[str, ...] = ()
    """Keys of categories, in order of the alphabet."""


def list_all(connection: Connection) -> list[Group]:
    """Return every group, by name."""
    blocked: dict[str, list[str]] = {}
    for row in connection.execute(select(schema.group_blocks).order_by(schema.group_blocks.c.category)):
        blocked.setdefault(row.group, []).append(row.category)
    rows = connection.execute(select(schema.groups).order_by(schema.groups.c.name))
    return [Group(row.name, row.mode, tuple(row.addresses), tuple(blocked.get(row.name, ()))) for row in rows]


def get(connection: Connection, name: str) -> Group:
    """Return one group. Raises `NotFoundError`."""
    row = connection.execute(select(schema.groups).where(schema.groups.c.name == name)).first()
    if row is None:
        raise NotFoundError("group", name)
    blocks = schema.group_blocks
    blocked = connection.execute(select(blocks.c.category).where(blocks.c.group == name).order_by(blocks.c.category))
    return Group(row.name, row.mode, tuple(row.addresses), tuple(blocked.scalars()))


def names(connection: Connection) -> set[str]:
    """Return the name of every group."""
    return set(connection.execute(select(schema.groups.c.name)).scalars())


def add(change: Change, name: str) -> Group:
    """Add a group that blocks nothing yet. Raises `InvalidError`, or `ConflictError` when the name is taken."""
    checks = Checks()
    checks.take("name", key, name)
    checks.finish()
    if name in names(change.connection):
        raise ConflictError(f"there is a group {name!r} already")
    group = Group(name)
    change.connection.execute(schema.groups.insert().values(name=name, mode=group.mode, addresses=[]))
    audit.record(change, "group.add", name, after=group)
    change.policy_changed()
    return group


def ensure(change: Change, name: str) -> Group:
    """Return the group of that name as it is, or add it. Raises `InvalidError`."""
    return get(change.connection, name) if name in names(change.connection) else add(change, name)


def update(change: Change, name: str, *, mode: str | None = None, addresses: Iterable[str] | None = None) -> Group:
    """Set how blocked names are answered; what isn't given stays.

    Mode `address` needs an address, and leaving it forgets them. Raises `NotFoundError`, `InvalidError`.
    """
    before = get(change.connection, name)
    checks = Checks()
    wanted = before.mode if mode is None else checks.take("mode", one_of, Mode, mode) or before.mode
    given = None if addresses is None else checks.take("addresses", many, addresses, address, limit=MAX_ADDRESSES)
    kept = before.addresses if given is None else given
    if not checks.problems and wanted == Mode.ADDRESS and not kept:
        checks.refuse("addresses", "mode 'address' needs at least one address")
    if not checks.problems and wanted != Mode.ADDRESS and given:
        checks.refuse("addresses", f"mode {str(wanted)!r} has no addresses; they belong to mode 'address'")
    checks.finish()
    after = replace(before, mode=str(wanted), addresses=kept if wanted == Mode.ADDRESS else ())
    if after == before:
        return before
    change.connection.execute(
        schema.groups.update()
        .where(schema.groups.c.name == name)
        .values(mode=after.mode, addresses=list(after.addresses))
    )
    audit.record(change, "group.set", name, before, after)
    change.policy_changed()
    return after


def block(change: Change, name: str, keys: Iterable[str]) -> Group:
    """Block categories for a group; those blocked already stay so.

    Raises `NotFoundError` for a group or category that isn't there, `InvalidError` for a category that allows.
    """
    before = get(change.connection, name)
    wanted = dict.fromkeys(keys)
    for category in wanted:
        if categories.get(change.connection, category).kind == categories.Kind.ALLOW:
            raise InvalidError("category", f"{category!r} is a category that allows: there is nothing to block")
    new = [category for category in wanted if category not in before.blocked]
    if not new:
        return before
    change.connection.execute(schema.group_blocks.insert(), [{"group": name, "category": category} for category in new])
    return _blocked(change, "group.block", before)


def unblock(change: Change, name: str, keys: Iterable[str]) -> Group:
    """Stop blocking categories for a group. One that wasn't blocked is no error: it is as was asked for.

    Raises `NotFoundError` for a group or category that isn't there.
    """
    before = get(change.connection, name)
    wanted = set(keys)
    for category in sorted(wanted):
        categories.get(change.connection, category)
    if wanted.isdisjoint(before.blocked):
        return before
    blocks = schema.group_blocks
    change.connection.execute(blocks.delete().where(blocks.c.group == name, blocks.c.category.in_(wanted)))
    return _blocked(change, "group.unblock", before)


def _blocked(change: Change, action: str, before: Group) -> Group:
    after = get(change.connection, before.name)
    audit.record(change, action, before.name, before, after)
    change.policy_changed()
    return after
