"""Upstreams' answers, written by dnspython, read by us, and read back by dnspython."""

from typing import NamedTuple

import dns.message
import dns.rrset

from resolver import replies, wire
from resolver.answers import read_answer
from resolver.replies import Answer
from resolver.rewriting import Terms
from tests.unit.resolver.messages import parsed, response_to

TERMS = Terms(0, 86400)
SOA = "example. 300 SOA ns.example. host.example. 1 2 3 4 60"


class Asked(NamedTuple):
    """A question, and the terms that its answers are read under."""

    name: str = "a.example"
    rdtype: str = "A"
    do: bool = False
    terms: Terms = TERMS

    @property
    def message(self) -> dns.message.Message:
        return dns.message.make_query(self.name, self.rdtype, use_edns=0, want_dnssec=self.do, id=0x1234, flags=0x0120)

    @property
    def query(self) -> wire.Query:
        return wire.read_query(self.message.to_wire())

    def read(self, data: bytes) -> Answer:
        """Read an upstream's answer, as octets."""
        return read_answer(data, self.query.folded, self.query.name, self.terms, do=self.do)

    def response(
        self,
        *records: str,
        authority: tuple[str, ...] = (),
        additional: tuple[str, ...] = (),
        rcode: int = 0,
        flags: int = 0,
    ) -> dns.message.Message:
        """Return a response; see `response_to`."""
        message = self.message
        message.use_edns(False)
        return response_to(message, *records, authority=authority, additional=additional, rcode=rcode, flags=flags)

    def answered(
        self,
        *records: str,
        authority: tuple[str, ...] = (),
        additional: tuple[str, ...] = (),
        rcode: int = 0,
        flags: int = 0,
    ) -> Answer:
        """Read what an upstream answers with records as text."""
        response = self.response(*records, authority=authority, additional=additional, rcode=rcode, flags=flags)
        return self.read(response.to_wire(max_size=65535))

    def passed_on(self, answer: Answer) -> dns.message.Message:
        """Return what a client gets."""
        return parsed(replies.write_reply(self.query, answer, b""))


def lines(section: list[dns.rrset.RRset]) -> list[str]:
    """Return a section's records as text: ``NAME TTL TYPE RDATA``."""
    return sorted(line.replace(" IN ", " ") for rrset in section for line in rrset.to_text().split("\n"))
