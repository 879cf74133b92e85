"""The policy document: what the database says about decisions, for `policy.snapshot` to read back."""

from typing import Any

from sqlalchemy import Connection

from storage import categories, exceptions, groups, networks, parts, sources
from storage.database import now


def build(connection: Connection, default_group: str) -> dict[str, Any]:
    """Return what of the document comes from the database; version and index are the publisher's to add."""
    enabled = {source.id: source for source in sources.list_all(connection) if source.enabled}
    severity = {category.key: category.severity for category in categories.list_all(connection)}
    return {
        "default_group": default_group,
        "groups": [
            {
                "name": group.name,
                "mode": group.mode,
                "addresses": group.addresses,
                "blocked": sorted(group.blocked, key=lambda key: severity[key]),
            }
            for group in groups.list_all(connection)
        ],
        "categories": [
            {"key": category.key, "kind": category.kind, "clause": category.clause}
            for category in categories.list_all(connection)
        ],
        "sources": [
            {
                "id": part.id,
                "key": enabled[part.source_id].key,
                "category": part.category or enabled[part.source_id].category,
            }
            for part in parts.list_all(connection)
            if part.source_id in enabled
        ],
        "networks": [{"cidr": n.cidr, "group": n.group} for n in networks.list_all(connection)],
        "exceptions": [
            {
                "id": exception.id,
                "domain": exception.domain,
                "action": exception.action,
                "match": exception.match,
                "groups": exception.groups,
                "clients": exception.clients,
                "expires_at": exception.expires_at,
            }
            for exception in exceptions.live(connection, now())
        ],
    }
