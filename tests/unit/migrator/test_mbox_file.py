"""Where messages begin and end in an mbox, and what is noted about them."""

from __future__ import annotations

import fcntl
import mailbox
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from migrator.mbox_file import MboxChanged, MboxLocked, NotAnMbox, is_mbox, read_mbox, read_message
from migrator.wire_form import with_crlf

FROM = b"From ann@old.test Sun Feb 29 23:59:59 2004\n"


def contents(tmp_path: Path, text: bytes) -> list[bytes]:
    path = tmp_path / "mbox"
    path.write_bytes(text)
    return [b"".join(read_message(path, message)) for message in read_mbox(path)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"", []),
        (FROM + b"A: b\n\nbody\n\n", [b"A: b\r\n\r\nbody\r\n"]),
        (FROM + b"A: b\n\nbody", [b"A: b\r\n\r\nbody"]),
        (FROM + b"A: b\n\none\n\n\n\n" + FROM + b"\ntwo\n", [b"A: b\r\n\r\none\r\n\r\n\r\n", b"\r\ntwo\r\n"]),
        (FROM + b"A: b\n\n" + FROM + b"C: d\n\n", [b"A: b\r\n\r\n", b"C: d\r\n\r\n"]),
        (FROM.replace(b"\n", b"\r\n") + b"A: b\r\n\r\nx\r\n\r\n", [b"A: b\r\n\r\nx\r\n"]),
        # a line like that divides messages only behind an empty line, and only with a date
        (FROM + b"A: b\n\none\n" + FROM + b"two\n\nFrom me to you\n>From x\n", [
            b"A: b\r\n\r\none\r\n" + FROM[:-1] + b"\r\ntwo\r\n\r\nFrom me to you\r\n>From x\r\n"
        ]),
        # Content-Length, where it fits
        (FROM + b"Content-Length: %d\n\nx\n\n" % (len(FROM) + 7) + FROM + b"y\n\n\n\n" + FROM + b"\nz\n", [
            b"\r\nx\r\n\r\n" + FROM[:-1] + b"\r\ny\r\n\r\n\r\n", b"\r\nz\r\n"
        ]),
        (FROM + b"Content-Length: 3\n\nlonger\n\n" + FROM + b"\nz\n", [b"\r\nlonger\r\n", b"\r\nz\r\n"]),
        (FROM + b"Content-Length: 99999\n\nlonger\n\n" + FROM + b"\nz\n", [b"\r\nlonger\r\n", b"\r\nz\r\n"]),
        (FROM + b"Content-Length: -3\n\nlonger\n\n", [b"\r\nlonger\r\n"]),
        # c-client's own message, and what stands before the first
        (FROM + b"Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\nX-IMAP: 1 2\n\n.\n\n" + FROM + b"\nz\n", [
            b"\r\nz\r\n"
        ]),
        (b"\n\r\n" + FROM + b"\nz\n", [b"\r\nz\r\n"]),
        (b"From nobody\nA: b\n\nz\n\nFrom me\nC: d\n\n", [b"A: b\r\n\r\nz\r\n", b"C: d\r\n\r\n"]),
        (b"From nobody\nz\n\nFrom me to you\ntext\n", [b"z\r\n\r\nFrom me to you\r\ntext\r\n"]),
    ],
)  # fmt: skip
def test_bounds(tmp_path: Path, text: bytes, expected: list[bytes]) -> None:
    assert contents(tmp_path, text) == expected


def test_notes(tmp_path: Path) -> None:
    """They become flags and are shown to nobody; a field of that name within the text stays."""
    path = tmp_path / "mbox"
    path.write_bytes(
        FROM + b"Subject: x\nStatus: RO\nX-Status: AFT\nX-Keywords: one $two\nX-UID: 7\nX-IMAPbase: 1 2\n"
        + b"\nStatus: R\n\n" + FROM + b"status:\nX-Status: D\n\n"
    )  # fmt: skip
    first, second = read_mbox(path)
    assert set(first.flags) == {b"\\Seen", b"\\Answered", b"\\Flagged", b"\\Draft", b"one", b"$two"}
    assert second.flags == (b"\\Deleted",)
    assert b"".join(read_message(path, first)) == b"Subject: x\r\n\r\nStatus: R\r\n"
    assert first.size == len(b"Subject: x\r\n\r\nStatus: R\r\n")


@pytest.mark.parametrize(
    ("line", "date"),
    [
        (b"From a Sun Feb 29 23:59:59 2004 +0130", b"29-Feb-2004 23:59:59 +0130"),
        (b"From a b c Sun Feb  1 3:59 +0200 2004", b"01-Feb-2004 03:59:00 +0200"),
        (b"From Sun, Feb 1 03:59:00 -0800 2004", b"01-Feb-2004 03:59:00 -0800"),
        (b"From a Sun Xyz 29 23:59:59 2004", b""),
    ],
)
def test_dates(tmp_path: Path, line: bytes, date: bytes) -> None:
    path = tmp_path / "mbox"
    path.write_bytes(line + b"\n\nx\n")
    assert [message.date for message in read_mbox(path)] == [date]


def test_a_date_without_a_zone_is_this_machines(tmp_path: Path) -> None:
    path = tmp_path / "mbox"
    path.write_bytes(FROM + b"\nx\n")
    script = (
        "from pathlib import Path; from migrator.mbox_file import read_mbox;"
        f"print(read_mbox(Path({str(path)!r}))[0].date.decode())"
    )
    for zone, date in (("UTC0", "+0000"), ("XXX-5:30", "+0530"), ("YYY8", "-0800")):
        done = subprocess.run(
            [sys.executable, "-c", script], env={**os.environ, "TZ": zone}, capture_output=True, text=True, check=True
        )
        assert done.stdout == f"29-Feb-2004 23:59:59 {date}\n"


def test_equal_messages_are_told_apart_and_flags_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "mbox"
    one = FROM + b"Subject: x\n\nbody\n\n"
    path.write_bytes(one + one)
    before = [message.identity for message in read_mbox(path)]
    assert len(set(before)) == 2
    path.write_bytes(one + one.replace(b"Subject", b"Status: RO\nSubject"))
    assert [message.identity for message in read_mbox(path)] == before


def test_a_file_that_changed_since(tmp_path: Path) -> None:
    path = tmp_path / "mbox"
    path.write_bytes(FROM + b"Subject: x\n\nbody\n\n")
    (message,) = read_mbox(path)
    path.write_bytes(FROM + b"Subject: y\n\nbody\n\n")
    with pytest.raises(MboxChanged):
        list(read_message(path, message))


def test_locks(tmp_path: Path) -> None:
    """As those who deliver have them; a lock file that is old holds nobody up."""
    path = tmp_path / "mbox"
    path.write_bytes(FROM + b"\nx\n")
    lock = tmp_path / "mbox.lock"
    lock.touch()
    with pytest.raises(MboxLocked):
        read_mbox(path)
    os.utime(lock, (1, 1))
    assert len(read_mbox(path)) == 1
    lock.unlink()
    script = (
        "import fcntl, sys; file = open(sys.argv[1], 'r+b'); fcntl.lockf(file, fcntl.LOCK_EX);"
        "print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(MboxLocked):
            read_mbox(path)
        holder.communicate()
    with path.open("r+b") as file:
        assert len(read_mbox(path)) == 1
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # nothing is held any more


@pytest.mark.parametrize("text", [b"stray\n\n" + FROM + b"\nz\n", b"\0", b">From x\n"])
def test_nothing_before_the_first_message_is_passed_over(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "file").write_bytes(text)
    with pytest.raises(NotAnMbox):
        read_mbox(tmp_path / "file")


def test_what_is_an_mbox(tmp_path: Path) -> None:
    for text, expected in ((b"", True), (FROM, True), (b"From: x\n", False), (b"\x00", False)):
        path = tmp_path / "file"
        path.write_bytes(text)
        assert is_mbox(path) is expected


_LINES = st.lists(
    st.sampled_from(
        [b"", b"x", b"From ", b"From me", b">From ", b"From a Sun Feb 29 23:59:59 2004", b"\x00\xff", b"y" * 200]
    ),
    max_size=8,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.lists(_LINES, max_size=5))
def test_as_pythons_own_mailbox_writes_it(tmp_path: Path, bodies: list[list[bytes]]) -> None:
    """Whatever the bodies: as many messages come out as went in, each as it was, but for its quoted lines."""
    path = tmp_path / "written"
    path.unlink(missing_ok=True)
    box = mailbox.mbox(path)
    for lines in bodies:
        box.add(b"Subject: x\n\n" + b"\n".join(lines) + b"\n")
    box.flush()
    box.close()
    expected = [
        b"Subject: x\n\n"
        + b"".join((b">" if line.startswith(b"From ") else b"") + line + b"\n" for line in lines or [b""])
        for lines in bodies
    ]
    if path.exists():
        found = [b"".join(read_message(path, message)) for message in read_mbox(path)]
        assert found == [b"".join(with_crlf([text])) for text in expected]
