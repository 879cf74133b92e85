"""Connections that ended leave nothing in a circle: the collector would not find it."""

import asyncio
import gc
import socket
import struct
import weakref
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dns.message
import pytest

from resolver.listeners import TcpListener, bind
from settings import Endpoint
from tests.unit.policy.build import Listed, block
from tests.unit.resolver.bench import Bench, make_bench, network_at

RESET = struct.pack("ii", 1, 0)  # socket(7), SO_LINGER: closing throws away what is unsent


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    made = make_bench(tmp_path, network_at(monkeypatch), lists=[Listed("list", "adult", [block("bad.test")])])
    yield made
    made.journal.close()


@pytest.fixture
def uncollected() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


def free_endpoint() -> Endpoint:
    with bind(Endpoint("127.0.0.1", 0), socket.SOCK_STREAM, shared=False) as sock:
        return Endpoint("127.0.0.1", sock.getsockname()[1])


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("end", ["client", "reset", "server", "half-asked"])
async def test_a_connection_that_ended_is_gone_without_the_collector(bench: Bench, end: str) -> None:
    endpoint = free_endpoint()
    listener = TcpListener(endpoint, bench.engine, Counter())
    await listener.start()
    reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
    query = dns.message.make_query("bad.test", "A").to_wire()
    framed = len(query).to_bytes(2, "big") + query
    if end == "half-asked":
        writer.write(framed[:5])
        await writer.drain()
        await _until(lambda: any(connection._buffer for connection in listener._open))
    else:
        writer.write(framed)
        assert int.from_bytes(await reader.readexactly(2), "big") > len(query)
    (transport,) = [weakref.ref(connection._transport) for connection in listener._open if connection._transport]
    if end == "server":
        listener.close()
    elif end == "reset":
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        writer.transport.abort()
    else:
        writer.close()
    await _until(lambda: not listener._open)
    await _until(lambda: transport() is None)
    writer.close()
    listener.close()


async def _until(condition: Any) -> None:
    async with asyncio.timeout(5.0):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)
