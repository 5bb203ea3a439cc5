"""Lines in and lines out, whatever the descriptors are."""

from __future__ import annotations

import os
import threading

from extauth.channel import Line, LineSplitter, ReplyWriter, RequestReader
from extauth.protocol import REQUEST_LIMIT


def read_everything(data: bytes, *, blocking: bool = True) -> list[Line]:
    """What a reader makes of a pipe that holds `data`."""
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, blocking)
    lines: list[Line] = []
    ended = threading.Event()
    reader = RequestReader(read_end, lines.extend, ended.set)
    reader.start()
    with open(write_end, "wb") as pipe:
        pipe.write(data)
    assert ended.wait(10)
    os.close(read_end)
    return lines


def test_reader_gives_lines_until_the_end() -> None:
    """Blocking or not; a last line without an end is marked."""
    for blocking in (True, False):
        lines = read_everything(b"one\ntwo\r\n\nrest", blocking=blocking)
        assert [(line.data, line.complete) for line in lines] == [
            (b"one", True),
            (b"two\r", True),
            (b"", True),
            (b"rest", False),
        ]


def test_closed_descriptor_is_the_end() -> None:
    """Nothing is raised in the thread."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    os.close(write_end)
    ended = threading.Event()
    RequestReader(read_end, lambda lines: None, ended.set).start()
    assert ended.wait(10)


def test_line_without_end_costs_bounded_memory() -> None:
    """A gigabyte without a line end would keep one request's worth."""
    splitter = LineSplitter()
    for _ in range(1000):
        assert splitter.feed(b"x" * 65536, 0.0) == []
    (line,) = splitter.feed(b"\n", 0.0)
    assert len(line.data) == REQUEST_LIMIT + 1
    assert splitter.feed(b"1 QUIT\n", 0.0) == [Line(b"1 QUIT", 0.0)]


def test_writer_writes_whole_lines_in_order_through_a_full_pipe() -> None:
    """`send` never waits; the reader gets every line once, whole, in order."""
    read_end, write_end = os.pipe()
    writer = ReplyWriter(write_end)
    wanted = [b"%d OK %b\n" % (number, b"x" * (number % 4000)) for number in range(3000)]
    for line in wanted:
        writer.send(line)
    received = bytearray()

    def read() -> None:
        while len(received) < sum(map(len, wanted)):
            received.extend(os.read(read_end, 65536))

    thread = threading.Thread(target=read)
    thread.start()
    assert writer.finish(30)
    thread.join(30)
    assert bytes(received) == b"".join(wanted)
    assert os.get_blocking(write_end)
    os.close(read_end)
    os.close(write_end)


def test_writer_to_a_non_blocking_pipe() -> None:
    """EAGAIN is waited out by the thread."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    writer = ReplyWriter(write_end)
    line = b"1 OK " + b"y" * 4000 + b"\n"
    for _ in range(100):
        writer.send(line)
    received = b""
    while len(received) < 100 * len(line):
        received += os.read(read_end, 65536)
    assert received == line * 100
    assert writer.finish(10)
    os.close(read_end)
    os.close(write_end)


def test_writer_to_a_file(tmp_path) -> None:  # type: ignore[no-untyped-def]  # pytest's path
    """Plain writes."""
    with open(tmp_path / "out", "wb") as file:
        writer = ReplyWriter(file.fileno())
        writer.send(b"1 OK\n")
        writer.send(b"2 OK\n")
        assert writer.finish(10)
    assert (tmp_path / "out").read_bytes() == b"1 OK\n2 OK\n"


def test_writer_whose_reader_is_gone() -> None:
    """Known at the next line, and nothing is kept."""
    read_end, write_end = os.pipe()
    writer = ReplyWriter(write_end)
    os.close(read_end)
    writer.send(b"1 OK\n")
    assert writer.broken
    writer.send(b"2 OK\n")
    assert writer.finish(0)
    os.close(write_end)


def test_replies_that_nobody_takes_are_bounded() -> None:
    """Beyond 16 MiB they are dropped and counted: the server has given these requests up long ago."""
    read_end, write_end = os.pipe()
    writer = ReplyWriter(write_end)
    line = b"1 OK " + b"z" * 4000 + b"\n"
    for _ in range(6000):
        writer.send(line)
    assert writer.dropped > 1000
    assert not writer.finish(0)
    os.close(read_end)  # lets the thread go
    assert writer.finish(10)
    os.close(write_end)
