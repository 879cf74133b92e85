"""A worker that has no descriptors left goes on answering, takes connections again, and doesn't turn in circles."""

import resource
from contextlib import ExitStack

from tests.integration.node import Node
from tests.support.dns_client import query, receive_framed, send_framed, tcp_socket, udp
from tests.support.processes import eventually, leave_room_for, rests

SAID = "nothing left for another connection (Too many open files)"


def test_connections_take_the_places_of_older_ones(node: Node) -> None:
    pid = node.start().process.pid
    assert udp(node.server, "bad.example").answer
    leave_room_for(3, pid)
    with ExitStack() as stack:
        for number in range(10, 20):
            sock = stack.enter_context(tcp_socket(node.server, source=f"127.0.0.{number}"))
            send_framed(sock, query("bad.example").to_wire())
            receive_framed(sock)
        assert udp(node.server, "www.bad.example").answer
        eventually(lambda: rests(pid))
    assert node.errors.count(SAID) == 1
    assert "Traceback" not in node.errors


def test_without_any_it_rests_and_takes_connections_later(node: Node) -> None:
    pid = node.start().process.pid
    assert udp(node.server, "bad.example").answer
    before = leave_room_for(0, pid)
    with tcp_socket(node.server) as sock:
        send_framed(sock, query("bad.example").to_wire())
        eventually(lambda: SAID in node.errors)
        assert udp(node.server, "www.bad.example").answer
        eventually(lambda: rests(pid))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        receive_framed(sock)
    assert node.errors.count(SAID) == 1
    assert "Traceback" not in node.errors
