"""What clients are answered, as `dig` sees it: allowed names, blocked names in every mode, over UDP, TCP and IPv6."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.acceptance.conftest import PATIENCE
from tests.support.behaviours import answering, computed_rdata, nxdomain, truncated
from tests.support.dns_client import Dig, dig
from tests.support.fake_upstream import FakeUpstream
from tests.support.processes import eventually
from tests.support.server import HallMonitor

BLOCKED = "pokerstars.com"
"""In the starter list of gambling, which all groups block."""
TYPES = ("A", "AAAA", "HTTPS", "TXT")


@pytest.fixture(scope="module")
def server(upstream: FakeUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HallMonitor]:
    """Give one that listens on IPv6 too."""
    running = HallMonitor(tmp_path_factory.mktemp("server"), upstreams=[upstream.url], workers=1, settings=PATIENCE)
    running.configure({"server": {"listen": [f"127.0.0.1:{running.dns[1]}", f"[::1]:{running.dns[1]}"]}})
    with running:
        yield running


@contextmanager
def mode(server: HallMonitor, name: str, *addresses: str) -> Iterator[None]:
    """Have students' blocked names answered in that way meanwhile."""
    for fields in ({"mode": name, "addresses": list(addresses)}, {"mode": "null", "addresses": []}):
        reply = server.api("PATCH", "/groups/students", fields)
        assert reply.status == 200, reply.body
        if fields["mode"] == name:
            yield


def is_nodata(answer: Dig) -> bool:
    return answer.status == "NOERROR" and not answer.answer and [r.rdtype for r in answer.authority] == ["SOA"]


class TestAllowed:
    @pytest.mark.parametrize("rdtype", ["A", "AAAA", "TXT"])
    def test_the_upstreams_answer_is_passed_on(self, server: HallMonitor, rdtype: str) -> None:
        answer = dig(server.dns, "school.example", rdtype)
        assert answer.status == "NOERROR"
        assert answer.rdata == [computed_rdata("school.example", rdtype)]
        assert answer.flags == {"qr", "rd", "ra"}
        assert answer.ede is None

    def test_a_name_that_does_not_exist(self, server: HallMonitor, upstream: FakeUpstream) -> None:
        upstream.behave("missing.example", nxdomain)
        answer = dig(server.dns, "missing.example")
        assert answer.status == "NXDOMAIN"
        assert [record.rdtype for record in answer.authority] == ["SOA"]

    def test_a_type_that_the_name_has_not(self, server: HallMonitor) -> None:
        assert is_nodata(dig(server.dns, "school.example", "MX"))

    def test_a_second_answer_comes_from_the_cache_with_its_ttl_counted_down(
        self, server: HallMonitor, upstream: FakeUpstream
    ) -> None:
        upstream.behave("counted.example", answering("@ 100 A 192.0.2.1"))
        assert dig(server.dns, "counted.example").answer[0].ttl == 100
        eventually(lambda: dig(server.dns, "counted.example").answer[0].ttl < 100)
        again = dig(server.dns, "counted.example").answer[0]
        assert 90 < again.ttl < 100
        assert again.rdata == "192.0.2.1"
        assert len(upstream.asked("counted.example")) == 1

    def test_an_answer_is_asked_for_again_when_its_ttl_has_passed(
        self, server: HallMonitor, upstream: FakeUpstream
    ) -> None:
        upstream.behave("brief.example", answering("@ 1 A 192.0.2.2"))

        def asked_again() -> bool:
            assert dig(server.dns, "brief.example").rdata == ["192.0.2.2"]
            return len(upstream.asked("brief.example")) > 1

        eventually(asked_again)

    def test_over_tcp(self, server: HallMonitor) -> None:
        answer = dig(server.dns, "stream.example", "A", "+tcp")
        assert answer.rdata == [computed_rdata("stream.example", "A")]
        assert "(TCP)" in answer.text

    def test_an_upstreams_truncated_answer_is_fetched_over_tcp(
        self, server: HallMonitor, upstream: FakeUpstream
    ) -> None:
        upstream.behave("cut.example", truncated)
        assert dig(server.dns, "cut.example", "TXT").rdata == [computed_rdata("cut.example", "TXT")]
        assert [query.transport for query in upstream.asked("cut.example")] == ["udp", "tcp"]

    def test_names_of_any_case_are_one_name(self, server: HallMonitor) -> None:
        assert dig(server.dns, "ScHoOl.ExAmPlE").rdata == [computed_rdata("school.example", "A")]
        assert dig(server.dns, BLOCKED.upper()).rdata == ["0.0.0.0"]


class TestBlocked:
    """Mode null, the default."""

    def test_addresses_are_null_and_other_types_empty(self, server: HallMonitor) -> None:
        found = {rdtype: dig(server.dns, BLOCKED, rdtype) for rdtype in TYPES}
        assert found["A"].rdata == ["0.0.0.0"]
        assert found["AAAA"].rdata == ["::"]
        assert is_nodata(found["HTTPS"])
        assert is_nodata(found["TXT"])

    def test_clients_keep_it_for_ten_seconds(self, server: HallMonitor) -> None:
        assert [record.ttl for record in dig(server.dns, BLOCKED).answer] == [10]
        assert [record.ttl for record in dig(server.dns, BLOCKED, "TXT").authority] == [10]
        assert dig(server.dns, BLOCKED).answer[0].ttl == 10, "however often it is asked"

    def test_what_is_below_is_blocked_and_what_is_beside_not(self, server: HallMonitor) -> None:
        assert dig(server.dns, f"www.play.{BLOCKED}").rdata == ["0.0.0.0"]
        assert dig(server.dns, f"not{BLOCKED}").rdata == [computed_rdata(f"not{BLOCKED}", "A")]

    def test_the_category_is_told_to_those_who_understand_it(self, server: HallMonitor) -> None:
        assert dig(server.dns, BLOCKED, "A").ede == (15, "gambling")
        assert dig(server.dns, BLOCKED, "TXT").ede == (15, "gambling")
        plain = dig(server.dns, BLOCKED, "A", "+noedns")
        assert plain.rdata == ["0.0.0.0"]
        assert plain.ede is None
        assert "OPT PSEUDOSECTION" not in plain.text

    def test_over_tcp(self, server: HallMonitor) -> None:
        answer = dig(server.dns, BLOCKED, "A", "+tcp")
        assert (answer.rdata, answer.ede) == (["0.0.0.0"], (15, "gambling"))

    def test_no_upstream_hears_of_it(self, server: HallMonitor, upstream: FakeUpstream) -> None:
        dig(server.dns, f"quiet.{BLOCKED}")
        assert upstream.asked(f"quiet.{BLOCKED}") == []


class TestModes:
    def test_nxdomain(self, server: HallMonitor) -> None:
        with mode(server, "nxdomain"):
            for rdtype in TYPES:
                answer = dig(server.dns, BLOCKED, rdtype)
                assert (answer.status, answer.answer) == ("NXDOMAIN", [])
                assert [(record.rdtype, record.ttl) for record in answer.authority] == [("SOA", 10)]
                assert answer.ede == (15, "gambling")

    def test_nodata(self, server: HallMonitor) -> None:
        with mode(server, "nodata"):
            for rdtype in TYPES:
                answer = dig(server.dns, BLOCKED, rdtype)
                assert is_nodata(answer)
                assert answer.ede == (15, "gambling")

    def test_refused(self, server: HallMonitor) -> None:
        with mode(server, "refused"):
            for rdtype in TYPES:
                answer = dig(server.dns, BLOCKED, rdtype)
                assert (answer.status, answer.answer, answer.authority) == ("REFUSED", [], [])
                assert answer.ede == (15, "gambling")

    def test_address(self, server: HallMonitor) -> None:
        with mode(server, "address", "192.0.2.80", "2001:db8::80"):
            assert dig(server.dns, BLOCKED, "A").rdata == ["192.0.2.80"]
            assert dig(server.dns, BLOCKED, "AAAA").rdata == ["2001:db8::80"]
            assert is_nodata(dig(server.dns, BLOCKED, "HTTPS"))
            assert is_nodata(dig(server.dns, BLOCKED, "TXT"))
            assert dig(server.dns, BLOCKED).answer[0].ttl == 10

    def test_address_of_one_family(self, server: HallMonitor) -> None:
        with mode(server, "address", "192.0.2.80"):
            assert dig(server.dns, BLOCKED, "A").rdata == ["192.0.2.80"]
            assert is_nodata(dig(server.dns, BLOCKED, "AAAA"))

    def test_by_command(self, server: HallMonitor) -> None:
        changed = server.hallmonitor("groups", "set", "students", "--mode", "nxdomain", "--json").object()
        assert changed["mode"] == "nxdomain"
        assert dig(server.dns, BLOCKED).status == "NXDOMAIN"
        server.hallmonitor("groups", "set", "students", "--mode", "null")
        assert dig(server.dns, BLOCKED).rdata == ["0.0.0.0"]

    def test_mode_address_needs_one(self, server: HallMonitor) -> None:
        done = server.hallmonitor("groups", "set", "guests", "--mode", "address", expect=1)
        assert len(done.err.splitlines()) == 1
        assert "address" in done.err


class TestIPv6:
    def test_udp_and_tcp_are_answered(self, server: HallMonitor) -> None:
        six = ("::1", server.dns[1])
        assert dig(six, "six.example", "AAAA").rdata == [computed_rdata("six.example", "AAAA")]
        assert dig(six, BLOCKED, "A", "+tcp").rdata == ["0.0.0.0"]

    def test_the_log_has_the_address(self, server: HallMonitor) -> None:
        dig(("::1", server.dns[1]), "seen-from-six.example")
        reply = server.api("GET", "/lookups?client=::1&name=seen-from-six.example")
        (record,) = reply.json()["items"]
        assert record["client"] == "::1"


class TestStrangers:
    def test_clients_outside_of_allow_from_are_refused_and_logged(
        self, upstream: FakeUpstream, server: HallMonitor
    ) -> None:
        """The last test here: it narrows the setting and puts it back."""
        # 127.0.0.7 is a stranger to one who serves 127.0.0.1 alone.
        server.configure({"server": {"allow_from": ["127.0.0.1/32"]}})
        try:
            server.signal(signal.SIGHUP)
            refused = eventually(lambda: refused_to(server, "127.0.0.7"), 30)
            assert refused is not None
            assert refused.answer == []
            assert dig(server.dns, "stranger.example").status == "NOERROR"
            records = server.api("GET", "/lookups?client=127.0.0.7&verdict=refused").json()["items"]
            assert records[0]["rcode"] == "REFUSED"
        finally:
            server.configure({"server": {"allow_from": ["127.0.0.0/8", "::1/128"]}})
            server.signal(signal.SIGHUP)
            eventually(lambda: not refused_to(server, "127.0.0.7"), 30)


def refused_to(server: HallMonitor, source: str) -> Dig | None:
    answer = dig(server.dns, "stranger.example", source=source)
    return answer if answer.status == "REFUSED" else None
