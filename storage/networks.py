"""Networks: which group a client belongs to by its address. They may overlap: the longest prefix wins."""

from dataclasses import asdict, dataclass

from sqlalchemy import Connection, delete, insert, select

from storage import audit, groups, schema
from storage.checks import Checks, cidr, text
from storage.database import Change
from storage.errors import ConflictError, NotFoundError


@dataclass(frozen=True)
class Network:
    """One network."""

    cidr: str
    group: str
    site: str


def list_all(connection: Connection) -> list[Network]:
    """Return every network, in the order of its text."""
    rows = connection.execute(select(schema.networks).order_by(schema.networks.c.cidr)).mappings()
    return [Network(**row) for row in rows]


def get(connection: Connection, network: str) -> Network:
    """Return one network. Raises `NotFoundError`, also for what is no network at all."""
    try:
        wanted = cidr(network)
    except ValueError as error:
        raise NotFoundError("network", network) from error
    row = connection.execute(select(schema.networks).where(schema.networks.c.cidr == wanted)).mappings().first()
    if row is None:
        raise NotFoundError("network", wanted)
    return Network(**row)


def add(change: Change, network: str, group: str, site: str = "") -> Network:
    """Put a network into a group. Raises `InvalidError`, or `ConflictError` when it is in one already."""
    checks = Checks()
    found = Network(
        cidr=checks.take("cidr", cidr, network) or "", group=group, site=checks.take("site", text, site) or ""
    )
    if group not in groups.names(change.connection):
        checks.refuse("group", f"there is no group {group[:80]!r}")
    checks.finish()
    taken = change.connection.execute(select(schema.networks).where(schema.networks.c.cidr == found.cidr)).first()
    if taken is not None:
        raise ConflictError(f"{found.cidr} is in group {taken.group!r} already: remove it there first")
    change.connection.execute(insert(schema.networks).values(asdict(found)))
    audit.record(change, "network.add", found.cidr, after=found)
    change.policy_changed()
    return found


def remove(change: Change, network: str) -> Network:
    """Take a network out of its group. Raises `NotFoundError`."""
    found = get(change.connection, network)
    change.connection.execute(delete(schema.networks).where(schema.networks.c.cidr == found.cidr))
    audit.record(change, "network.remove", found.cidr, before=found)
    change.policy_changed()
    return found
