"""Real lists: what was counted in each when last looked at, and beside it a naive reading of some.

The naive one is a regular expression over the lines, and set arithmetic.
"""

import re
from collections import Counter

import pytest

from blocklists import catalogue
from blocklists.inspecting import _Counts
from blocklists.listing import Parsed, Rejection, read_list
from tests.support import real_lists
from tests.support.real_lists import LISTS, content

pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(not LISTS.is_dir(), reason="the real lists are not beside the checkout"),
]
RECORDED = real_lists.recorded()


def test_archive_of_many_categories_holds_what_was_counted_in_it() -> None:
    assert real_lists.counted_ut1() == RECORDED["ut1"]


def test_every_list_was_counted() -> None:
    assert real_lists.names() == sorted(RECORDED["lists"])


def test_catalogue_knows_every_directory_of_the_archive() -> None:
    assert set(RECORDED["ut1"]) <= set(catalogue.directories())
    assert len(RECORDED["ut1"]) == 69


def ours(name: str, data: bytes) -> tuple[str, set[str], Counter[str]]:
    """Return the format that was told, the rules as adblock writes them, and the rejections by reason.

    What was counted in the list must be in it.
    """
    listing = read_list(data)
    items = list(listing)
    assert {"format": listing.format, **_Counts(items).shown()} == RECORDED["lists"][name]
    rules = {str(item.rule) for item in items if isinstance(item, Parsed)}
    return listing.format, rules, Counter(item.reason.value for item in items if isinstance(item, Rejection))


def naive(data: bytes, pattern: str) -> set[str]:
    """Return the first group of each line that matches, in lower case."""
    found = re.finditer(pattern, data.decode(), re.MULTILINE)
    return {match[1].lower().removesuffix(".") for match in found}


HOSTS = r"^(?:0\.0\.0\.0|127\.0\.0\.1)[ \t]+([^\s#]+)[ \t]*(?:#.*)?\r?$"
PLAIN = r"^([^#!\s]+)[ \t]*\r?$"
SUBTREE = "||{}^"
ADDRESS = r"\d+\.\d+\.\d+\.\d+"

# name, naive pattern, format, how a rule is written, what of the naive reading is no rule of ours, how many rules
FILES = [
    ("blocklistproject/redirect.txt", HOSTS, "hosts", "{}", set(), 108_685),
    ("adaway/hosts.txt", HOSTS, "hosts", "{}", {"localhost"}, 6_540),
    ("antiporn4skin/HOSTS.txt", HOSTS, "hosts", "{}", {ADDRESS, "gob.mx", "szex.hu", "sex.hu", r"\w+\.mm"}, 90_877),
    ("anudeepnd/adservers.txt", HOSTS, "hosts", "{}", set(), 42_358),
    ("hostsvn/hosts", HOSTS, "hosts", "{}", set(), 18_298),
    ("romainmarcoux/full-domains-aa.txt", PLAIN, "domains", SUBTREE, set(), 131_072),
    ("blocklistproject/adguard/tracking-ags.txt", r"^\|\|(.+)\^$", "adblock", SUBTREE, set(), 143_876),
    ("neodev/dnsmasq.conf", r"^address=/(.+)/0\.0\.0\.0$", "dnsmasq", SUBTREE, set(), 111_532),
    ("hostsvn/option/dnsmasq-hostsVN.conf", r"^local=/(.+)/$", "dnsmasq", SUBTREE, set(), 18_298),
    ("blocklistproject/dnsmasq-version/basic-dnsmasq.txt", r"^server=/(.+)/$", "dnsmasq", SUBTREE, set(), 76_036),
    ("ph00lt0/rpz-blocklist.txt", r"^(\S+) CNAME \.$", "rpz", "{}", {"biz.id"}, 29_497),
    ("ph00lt0/unbound-blocklist.txt", r'^local-zone: "(\S+)" always_null$', "unbound", SUBTREE, {"biz.id"}, 29_497),
    ("ph00lt0/wildcard-blocklist.txt", r"^\*\.(\S+)$", "wildcard", SUBTREE, {"biz.id"}, 29_497),
]


@pytest.mark.parametrize(
    ("name", "pattern", "list_format", "written", "refused", "count"), FILES, ids=[row[0] for row in FILES]
)
def test_list_holds_what_a_naive_reading_finds(
    name: str, pattern: str, list_format: str, written: str, refused: set[str], count: int
) -> None:
    data = content(name)
    expected = {
        written.format(found)
        for found in naive(data, pattern)
        if not any(re.fullmatch(refusal, found) for refusal in refused)
    }
    told, rules, _ = ours(name, data)
    assert told == list_format
    assert rules == expected
    assert len(rules) == count


def test_adblock_list_takes_back_what_it_says_it_does() -> None:
    name = "ph00lt0/blocklist.txt"
    data = content(name)
    taken_back = naive(data, r"^\|\|(\S+)\^\$badfilter")
    blocked = naive(data, r"^\|\|([a-z0-9._-]+)\^(?: +#.*)?$") - taken_back - {"biz.id"}
    allowed = naive(data, r"^@@\|\|([a-z0-9._-]+)\^(?: +#.*)?$")
    told, rules, reasons = ours(name, data)
    assert told == "adblock"
    assert (len(taken_back), len(blocked), len(allowed)) == (450, 29_492, 4)
    written = {f"||{found}^" for found in blocked} | {f"@@||{found}^" for found in allowed}
    # Six names are written in Unicode, which the naive reading doesn't know.
    assert rules >= written
    assert rules - written == {
        "||from-fl.com^",
        "||is-a-financialadvisor.com^",
        "||is-certifled.com^",
        "||is-not-certified.com^",
        "||xn--casinonstved-ddb.dk^",
        "||xn--rd25-gra.dk^",
    }
    assert reasons == {"cosmetic": 888, "modifier": 781, "path": 181, "pattern": 133, "public_suffix": 1}


WITHOUT = [
    ("blocklistproject/dnsmasq-version/fraud-dnsmasq.txt", "path", 196_048),
    ("blocklistproject/malware.ip", "address", 20_907),
    ("chinalist/accelerated-domains.china.conf", "forward", 110_769),
]


@pytest.mark.parametrize(("name", "reason", "count"), WITHOUT)
def test_list_without_a_name_to_block_is_rejected_line_by_line(name: str, reason: str, count: int) -> None:
    _, rules, reasons = ours(name, content(name))
    assert rules == set()
    assert reasons == {reason: count}


READ_ABOVE = {"ph00lt0/blocklist.txt", *(row[0] for row in FILES), *(row[0] for row in WITHOUT)}


@pytest.mark.parametrize("name", sorted(RECORDED["lists"].keys() - READ_ABOVE))
def test_list_holds_what_was_counted_in_it(name: str) -> None:
    """When a reader has changed, and rightly so: python -m tests.support.real_lists."""
    assert real_lists.counted(name) == RECORDED["lists"][name]
