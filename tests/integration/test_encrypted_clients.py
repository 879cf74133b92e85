"""DNS over TLS and HTTPS from a real worker, asked by programs that others wrote: kdig and curl."""

import asyncio
import signal
import ssl
import threading
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import dns.message
import pytest

from tests.integration.encrypted_node import EncryptedNode
from tests.integration.listening import client_context
from tests.support import behaviours
from tests.support.dns_client import query, receive_framed, send_framed, tcp_socket
from tests.support.fake_upstream import FakeUpstream
from tests.support.processes import eventually

DNS = "application/dns-message"


@pytest.fixture(scope="module")
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream() as server:
        yield server


@pytest.fixture
def fresh(tmp_path: Path, upstream: FakeUpstream) -> Iterator[EncryptedNode]:
    yield from started(EncryptedNode(tmp_path / "node", upstream))


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, upstream: FakeUpstream) -> Iterator[EncryptedNode]:
    """One worker for the tests that only ask."""
    yield from started(EncryptedNode(tmp_path_factory.mktemp("shared"), upstream))


def started(node: EncryptedNode) -> Iterator[EncryptedNode]:
    node.start()
    yield node
    for worker in node.workers:
        worker.close()
    assert "Traceback" not in node.errors


@pytest.mark.parametrize(
    ("options", "transport"), [(["+tls"], "tls"), (["+https"], "https"), (["+https-get"], "https")]
)
def test_kdig_gets_its_answers_and_the_log_says_how(node: EncryptedNode, options: list[str], transport: str) -> None:
    before = len(node.records)
    assert node.kdig("www.bad.example", *options).rdata == ["0.0.0.0"]
    assert node.kdig("a.example", *options).rdata == [behaviours.computed_rdata("a.example", "A")]
    records = node.records[before:]
    assert [record.client.transport for record in records] == [transport] * 2
    assert [record.decision.qname for record in records] == ["www.bad.example", "a.example"]


def test_kdig_keeps_a_connection_for_more_than_one_question(node: EncryptedNode) -> None:
    found = node.kdig("www.bad.example", "+tls", "+keepopen", "b.example")
    assert found.text.count("status: NOERROR") == 2


@pytest.mark.parametrize("version", ["1.1", "2"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_curl_gets_its_answers(node: EncryptedNode, version: str, method: str) -> None:
    message = query("www.bad.example")
    wire = message.to_wire()
    http = f"--http{version}"
    if method == "GET":
        got = node.curl(http, f"{node.url}?dns={urlsafe_b64encode(wire).rstrip(b'=').decode()}")
    else:
        got = node.curl(http, "-H", f"Content-Type: {DNS}", "--data-binary", "@-", node.url, body=wire)
    assert (got.status, got.version) == (200, version)
    answer = dns.message.from_wire(got.body)
    assert message.is_response(answer)
    assert got.fields["content-type"] == DNS
    assert got.fields["cache-control"] == f"max-age={answer.answer[0].ttl}"
    assert int(got.fields["content-length"]) == len(got.body)


@pytest.mark.parametrize("version", ["1.1", "2"])
def test_what_carries_no_query_is_refused_and_logged_nowhere(node: EncryptedNode, version: str) -> None:
    http, typed = f"--http{version}", ["-H", f"Content-Type: {DNS}", "--data-binary", "@-"]
    before = len(node.records)
    statuses = {
        "none": node.curl(http, node.url).status,
        "bad": node.curl(http, f"{node.url}?dns=***").status,
        "elsewhere": node.curl(http, node.url.removesuffix("/dns-query")).status,
        "put": node.curl(http, "-X", "PUT", node.url).status,
        "head": node.curl(http, "--head", node.url).status,
        "typed": node.curl(http, "--data-binary", "@-", node.url, body=b"abc").status,
        "junk": node.curl(http, *typed, node.url, body=b"abc").status,
        "large": node.curl(http, *typed, node.url, body=bytes(65_536)).status,
        "long": node.curl(http, f"{node.url}?dns={'A' * 10_000}").status,
    }
    assert statuses == {
        "none": 400,
        "bad": 400,
        "elsewhere": 404,
        "put": 405,
        "head": 405,
        "typed": 415,
        "junk": 400,
        "large": 413,
        "long": 414,
    }
    assert len(node.records) == before


class _Site(BaseHTTPRequestHandler):
    """A web site of one word."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"reached")

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def test_curl_resolves_names_with_it(node: EncryptedNode) -> None:
    """The answer to a blocked name is 0.0.0.0, which is this host."""
    with HTTPServer(("127.0.0.1", 0), _Site) as site:
        thread = threading.Thread(target=site.serve_forever)
        thread.start()
        url = f"http://www.bad.example:{site.server_port}/"
        got = node.curl("-4", "--noproxy", "*", "--doh-insecure", "--doh-url", node.url, url)
        site.shutdown()
        thread.join()
    assert got.body == b"reached"


async def test_pipelined_queries_over_tls_are_answered_as_they_finish(node: EncryptedNode) -> None:
    node.upstream.behave("slow.example", behaviours.slow(1.0))
    messages = [query(name) for name in ("slow.example", "fast.example", "bad.example")]
    with ssl_socket(node) as sock:
        await asyncio.to_thread(send_framed, sock, *(message.to_wire() for message in messages))
        answers = [dns.message.from_wire(await asyncio.to_thread(receive_framed, sock)) for _ in messages]
    assert {answer.id for answer in answers} == {message.id for message in messages}
    assert answers[-1].id == messages[0].id


def ssl_socket(node: EncryptedNode) -> ssl.SSLSocket:
    with tcp_socket(node.tls) as sock:
        return client_context("dot").wrap_socket(sock.dup(), suppress_ragged_eofs=False)


def test_told_to_stop_it_answers_over_tls_and_says_goodbye(fresh: EncryptedNode) -> None:
    fresh.upstream.behave("slow-stop.example", behaviours.slow(0.5))
    message = query("slow-stop.example")
    before = len(fresh.upstream.asked("slow-stop.example"))
    with ssl_socket(fresh) as sock:
        sock.settimeout(10.0)
        send_framed(sock, message.to_wire())
        eventually(lambda: len(fresh.upstream.asked("slow-stop.example")) > before)
        fresh.workers[0].process.send_signal(signal.SIGTERM)
        assert message.is_response(dns.message.from_wire(receive_framed(sock)))
        assert sock.recv(1) == b""  # a close_notify: without it this raises
    assert fresh.workers[0].wait() == 0
