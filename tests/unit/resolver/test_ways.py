"""Where our own aliases lead: each name on the way is decided, and `hallmonitor lookup` says what the resolver does."""

from collections.abc import Sequence
from typing import Any

import dns.message
import pytest

from control.explain import explain
from tests.unit.policy.build import ALLOW_CATEGORY, Listed, allow, block, exception
from tests.unit.resolver.bench import CLIENT, Bench, Make, turn
from tests.unit.resolver.messages import rdata
from tests.unit.resolver.test_chains import zoned

RECORDS = [
    "a.example CNAME b.example",
    "b.example CNAME c.example",
    "c.example A 10.1.2.3",
    "portal.example CNAME way.example",
    "way.example CNAME site.example",
    "*.wild.example CNAME c.example",
    "local.example CNAME x.localhost",
    "*.loop.example CNAME again.loop.example",
]
GAMBLING = Listed("s", "gambling", [block(f"{name}.example") for name in ("site", "a", "b", "c", "way")])
TOLD = ("verdict", "category", "source", "rule", "exception_id")
Told = tuple[str, str, str, str, int]


async def decided(bench: Bench, name: str) -> tuple[dns.message.Message, Told]:
    """Ask for a name, the upstream having an address for what is asked, and return the reply and what was logged."""
    bench.ask(name)
    for attempt in bench.network.tries:
        attempt.answer(f"{attempt.exchange.name}. 60 A 192.0.2.7")
    await turn()
    (sent,) = bench.sent
    decision = bench.decision
    return sent.message, (
        decision.verdict,
        decision.category,
        decision.source,
        decision.rule,
        decision.exception_id,
    )


def explained(bench: Bench, name: str) -> Told:
    found = explain(bench.engine.snapshot, bench.engine._stages.local, name, CLIENT, "A")
    verdict, category, source, rule, exception_id = (found[key] for key in TOLD)
    return verdict, category or "", source or "", rule or "", exception_id or 0


@pytest.mark.parametrize(
    ("name", "lists", "exceptions", "told", "data"),
    [
        # Nothing stands against it.
        ("a.example", [], [], ("local", "", "", "a.example", 0), "10.1.2.3"),
        ("portal.example", [], [], ("allowed", "", "", "", 0), "192.0.2.7"),
        # An administrator does, wherever it is on the way.
        *(
            (
                asked,
                [],
                [exception(5, f"{blocked}.example", "block")],
                ("blocked", "", "", f"||{blocked}.example^ by way of {blocked}.example", 5),
                "0.0.0.0",
            )
            for asked, blocked in [
                ("a.example", "b"),
                ("a.example", "c"),
                ("x.wild.example", "c"),
                ("portal.example", "way"),
                ("portal.example", "site"),
            ]
        ),
        # Who opens the name opens where it leads.
        (
            "a.example",
            [],
            [exception(5, "b.example", "block"), exception(6, "a.example")],
            ("local", "", "", "a.example", 0),
            "10.1.2.3",
        ),
        (
            "portal.example",
            [GAMBLING],
            [exception(5, "way.example", "block"), exception(6, "portal.example")],
            ("exception", "", "", "@@||portal.example^", 6),
            "192.0.2.7",
        ),
        # Lists are about other people's names.
        ("a.example", [GAMBLING], [], ("local", "", "", "a.example", 0), "10.1.2.3"),
        (
            "portal.example",
            [GAMBLING],
            [],
            ("blocked", "gambling", "s", "||site.example^ by way of site.example", 0),
            "0.0.0.0",
        ),
        # What lets the name through covers where it leads, and is told.
        (
            "portal.example",
            [GAMBLING, Listed("edu", ALLOW_CATEGORY, [allow("portal.example")])],
            [],
            ("allowed", ALLOW_CATEGORY, "edu", "@@||portal.example^", 0),
            "192.0.2.7",
        ),
        # Of special names nobody can say anything.
        ("local.example", [], [exception(5, "localhost", "block")], ("local", "", "", "local.example", 0), "127.0.0.1"),
        # Circles.
        ("x.loop.example", [], [], ("failed", "", "", "*.loop.example", 0), ""),
    ],
)
async def test_each_name_on_the_way_is_decided(
    make: Make, name: str, lists: Sequence[Listed], exceptions: list[dict[str, Any]], told: Told, data: str
) -> None:
    bench = zoned(make, *RECORDS, lists=lists, exceptions=exceptions)
    reply, logged = await decided(bench, name)
    assert (logged, "".join(rdata(reply)[:1])) == (told, data)
    assert explained(bench, name) == told
