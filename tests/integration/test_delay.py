"""The proxy that makes a way longer for measurements."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from tests.servers.delay import delayed


@contextmanager
def behind(delay: float, serve: Callable[[socket.socket], None]) -> Iterator[tuple[socket.socket, Future[None]]]:
    """A connection over the proxy to a server that serves one client in a thread."""
    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as pool:

        def one() -> None:
            with listening.accept()[0] as connection:
                connection.settimeout(30)
                serve(connection)

        serving = pool.submit(one)
        with delayed(listening.getsockname()[1], delay) as port, socket.create_connection(("127.0.0.1", port)) as link:
            link.settimeout(30)
            yield link, serving


def read_to_end(link: socket.socket) -> bytes:
    found = bytearray()
    while data := link.recv(1 << 16):
        found += data
    return bytes(found)


def test_each_way_takes_half_of_the_round_trip_longer() -> None:
    """Lower bounds: a busy machine only makes it later."""
    seen: list[float] = []

    def echo(connection: socket.socket) -> None:
        data = connection.recv(1)
        seen.append(time.monotonic())
        connection.sendall(data)

    with behind(200, echo) as (link, serving):
        began = time.monotonic()
        link.sendall(b"x")
        assert link.recv(1) == b"x"
        ended = time.monotonic()
        serving.result(30)
    assert seen[0] - began >= 0.099
    assert ended - seen[0] >= 0.099


def test_every_byte_arrives_in_order_both_ways() -> None:
    data = random.Random(3).randbytes(5_000_000)

    def mirror(connection: socket.socket) -> None:
        found = bytearray()
        while len(found) < len(data):
            found += connection.recv(1 << 16)
        connection.sendall(found)

    with behind(6, mirror) as (link, serving):
        link.sendall(data)
        assert read_to_end(link) == data
        serving.result(30)


def test_the_end_of_the_client_reaches_the_server() -> None:
    found: list[bytes] = []

    with behind(6, lambda connection: found.append(read_to_end(connection))) as (link, serving):
        link.sendall(b"QUIT\r\n")
        link.close()
        serving.result(30)
    assert found == [b"QUIT\r\n"]


def test_without_a_delay_there_is_no_proxy() -> None:
    with delayed(4711, 0) as port:
        assert port == 4711
