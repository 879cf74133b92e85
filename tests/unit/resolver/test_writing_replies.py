"""Replies and upstream queries as octets, read back by dnspython."""

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver import records, replies, wire
from resolver.replies import Answer
from tests.unit.resolver.messages import ede, octets, parsed, rdata
from tests.unit.resolver.test_reading_queries import read

NOTHING = replies.bare(wire.NOERROR)
ADDRESS = records.answer([records.record(1, bytes([192, 0, 2, 1]), 60)], ttl=60)


def written(query: wire.Query, answer: Answer = NOTHING, error: tuple[int, str] | None = None) -> bytes:
    """Return a reply without its ID, with an OPT record where the query has one."""
    opt = b"" if query.edns is None else replies.opt_record(query.edns, answer.rcode, error)
    return replies.write_reply(query, answer, opt)


def test_a_reply_echoes_the_question_and_what_the_client_may_see() -> None:
    """RFC 1035 section 4.1.1, RFC 4035 section 3.2.2 (CD); AA, TC, Z and AD of the query are not echoed."""
    query = wire.read_query(octets(b"Aa", b"Example", flags=0x0100 | 0x0400 | 0x0200 | 0x0040 | 0x0020 | 0x0010))
    reply = parsed(written(query))
    assert reply.question[0].to_text() == "aa.example. IN A"  # in the form that all who ask for it share
    assert dns.flags.to_text(reply.flags) == "QR RD RA CD"


@pytest.mark.parametrize("flags", [0, 0x0100])
def test_rd_is_copied_and_ra_always_set(flags: int) -> None:
    reply = parsed(written(wire.read_query(octets(b"a", flags=flags))))
    assert bool(reply.flags & dns.flags.RD) == bool(flags)
    assert reply.flags & dns.flags.RA


@pytest.mark.parametrize(
    ("vouched", "ad_bit", "do", "shown"),
    [
        (True, True, False, True),
        (True, False, True, True),
        (True, False, False, False),  # RFC 6840 section 5.8
        (False, True, True, False),
    ],
)
def test_ad_is_for_who_knows_it(vouched: bool, ad_bit: bool, do: bool, shown: bool) -> None:
    query = read(flags=dns.flags.RD | (dns.flags.AD if ad_bit else 0), use_edns=0, want_dnssec=do)
    reply = parsed(written(query, NOTHING._replace(ad=vouched)))
    assert bool(reply.flags & dns.flags.AD) == shown


# EDNS.


@pytest.mark.parametrize("do", [True, False])
def test_the_opt_record_offers_1232_octets_and_copies_do_alone(do: bool) -> None:
    query = read(use_edns=0, ednsflags=0x7FFF | (0x8000 if do else 0), payload=4096)
    for error in (None, (15, "adult")):
        reply = parsed(written(query, error=error))
        assert (reply.edns, reply.payload, reply.ednsflags) == (0, 1232, 0x8000 if do else 0)
        assert ede(reply) == error


def test_an_extended_code_is_split_between_header_and_opt() -> None:
    reply = parsed(written(read(use_edns=1), replies.bare(wire.BADVERS)))
    assert reply.rcode() == dns.rcode.BADVERS
    assert reply.edns == 0


@pytest.mark.parametrize("text", ["adult", "", "x" * 300, "ä" * 300, "a" + "€" * 300])
def test_an_extended_errors_text_is_short_and_utf8(text: str) -> None:
    """RFC 8914 section 2: EXTRA-TEXT is UTF-8, also where it is cut."""
    reply = parsed(written(read(use_edns=0), error=(15, text)))
    (option,) = reply.options
    assert isinstance(option, dns.edns.EDEOption)
    assert option.code == 15
    assert text.startswith(option.text or "")
    assert len((option.text or "").encode()) <= replies.MAX_EDE_TEXT
    assert bool(option.text) == bool(text)


@given(
    size=st.integers(0, 2000),
    error=st.none() | st.tuples(st.integers(0, 65535), st.text(max_size=40)),
    keepalive=st.none() | st.integers(0, 65535),
    padded=st.booleans(),
)
def test_options_are_added_to_those_that_are_there(
    size: int, error: tuple[int, str] | None, keepalive: int | None, padded: bool
) -> None:
    """RFC 8467 section 4.1: a padded message, its ID included, is a multiple of 468 octets."""
    query = read(use_edns=0, want_dnssec=True)
    assert query.edns is not None
    opt = replies.opt_record(query.edns, wire.NOERROR, error)
    reply = replies.write_reply(query, Answer(0, False, 1, 0, records.record(65280, bytes(size), 60), (), 60), opt)
    whole = b"\x12\x34" + replies.with_options(reply, len(opt), keepalive=keepalive, padded=padded)
    message = dns.message.from_wire(whole)
    expected = ([15] if error is not None else []) + ([11] if keepalive is not None else []) + ([12] if padded else [])
    assert [int(option.otype) for option in message.options] == expected
    assert (message.ednsflags, message.payload) == (0x8000, 1232)
    assert (ede(message) or (-1, ""))[0] == (-1 if error is None else error[0])
    assert len(message.answer) == 1
    options = {int(option.otype): option.to_wire() for option in message.options}
    if keepalive is not None:
        assert options[11] == keepalive.to_bytes(2, "big")  # RFC 7828 section 3.1
    if padded:
        assert len(whole) % 468 == 0
        assert not any(options[12] or b"")
        assert len(options[12] or b"") < 468


# What doesn't fit, and what can't be.


@pytest.mark.parametrize(
    ("payload", "limit"), [(None, 512), (0, 512), (100, 512), (512, 512), (900, 900), (1232, 1232), (65535, 1232)]
)
def test_the_udp_limit(payload: int | None, limit: int) -> None:
    """RFC 6891 section 6.2.3 and .5: below 512 is 512; never over what passes any path."""
    query = read(use_edns=False) if payload is None else read(use_edns=0, payload=payload)
    assert replies.udp_limit(query) == limit


def test_a_truncated_reply_holds_nothing_but_the_question() -> None:
    query = read(use_edns=0)
    assert query.edns is not None
    reply = parsed(replies.truncated(query, 0, replies.opt_record(query.edns, 0, None)))
    assert dns.flags.to_text(reply.flags) == "QR TC RD RA"
    assert reply.question[0].to_text() == "a.example. IN A"
    assert not reply.answer
    assert not reply.authority
    assert reply.edns == 0


@pytest.mark.parametrize("edns", [True, False])
def test_servfail_in_place_of_a_reply_keeps_who_asked_what(edns: bool) -> None:
    query = dns.message.make_query("aa.example", "A", use_edns=0 if edns else False, want_dnssec=edns, flags=0x0130)
    whole = written(wire.read_query(query.to_wire()), ADDRESS._replace(ad=True), (15, "x"))
    assert rdata(parsed(whole)) == ["192.0.2.1"]
    reply = dns.message.from_wire(replies.as_servfail(query.to_wire()[:2] + whole))
    assert query.is_response(reply)
    assert reply.rcode() == dns.rcode.SERVFAIL
    assert not reply.answer
    assert dns.flags.to_text(reply.flags) == "QR RD RA CD"
    # RFC 6891 section 6.1.1: a query with an OPT record gets one back.
    assert (reply.edns == 0) == edns
    assert not reply.options


def test_servfail_in_place_of_an_error_without_a_question() -> None:
    reply = dns.message.from_wire(replies.as_servfail(b"\x12\x34" + replies.write_error(octets(b"a"), wire.FORMERR)))
    assert reply.rcode() == dns.rcode.SERVFAIL
    assert not reply.question


# Asking upstreams.


@pytest.mark.parametrize("do", [True, False])
@pytest.mark.parametrize("cd", [True, False])
def test_an_upstream_is_asked_plainly(do: bool, cd: bool) -> None:
    """RFC 6891 section 6.1.1, RFC 6840 section 5.7 (AD asks for the bit); no option, so nobody is told who asks."""
    head, opt = wire.ask(do=do, cd=cd)
    query = parsed(head + octets(b"a", b"example")[12:] + opt)
    assert query.flags == dns.flags.RD | dns.flags.AD | (dns.flags.CD if cd else 0)
    assert query.question[0].name.to_text() == "a.example."
    assert (query.edns, query.payload, query.ednsflags, query.options) == (0, 1232, 0x8000 if do else 0, ())
