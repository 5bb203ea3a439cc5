"""`migrator hashes`: numbers, names and reasons; never a hash."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from migrator.__main__ import main
from tests.vectors.password_hashes import VECTORS


class _Stdin:
    """A pipe with one line in it."""

    def __init__(self, line: bytes) -> None:
        self.buffer = io.BytesIO(line)

    def isatty(self) -> bool:
        return False


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the command; gives its exit code and what it wrote."""

    def run(*words: str, stdin: bytes = b"") -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", _Stdin(stdin))
        with pytest.raises(SystemExit) as ended:
            main(["hashes", *words])
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """One line of each vector."""
    path = tmp_path / "hashes"
    path.write_text("".join(f"u{n}@d.test\t{vector.text}\n" for n, vector in enumerate(VECTORS)))
    path.chmod(0o600)
    return path


def test_counts_by_use_and_kind(file: Path, run: Any) -> None:
    """All vectors are whole, and this machine checks every kind of them."""
    code, out, err = run(str(file), "--json")
    told = json.loads(out)
    assert (code, err, told["problems"], told["unsupported"]) == (0, "", [], {})
    assert told["accounts"] == len(VECTORS) == sum(told["uses"].values())
    for use in ("taken as it is", "at the first login"):
        assert told["uses"][use] == sum(vector.use.value == use for vector in VECTORS)
    code, out, err = run(str(file))
    assert code == 0
    for vector in VECTORS:
        assert vector.scheme.value in out
        assert vector.text not in out


def test_bad_lines_are_named_and_never_shown(tmp_path: Path, run: Any) -> None:
    """By number and name; the exit code says that a person is needed."""
    file = tmp_path / "hashes"
    broken = ["$1$12345678$f8QoJuo0DpBRfQSD0vglc", "{WHAT}c2VjcmV0", "$6$rounds=99999999$salt$" + "a" * 86]
    file.write_text("".join(f"u{n}:{text}\n" for n, text in enumerate(broken)) + "nonsense here\nlocked:!x\nbin:*\n")
    code, out, _ = run(str(file), "--domain", "d.test")
    assert code == 1
    for number, name in ((1, "u0@d.test"), (2, "u1@d.test"), (3, "u2@d.test")):
        assert f"{file}:{number}: {name}: " in out
    assert f"{file}:4: " in out
    assert f"{file}:5:" not in out  # locked, as the old system wants it
    assert "0600" in out
    for text in broken:
        assert text not in out
        assert text.rpartition("$")[2] not in out


def test_bad_lines_are_written_to_be_fed_back(tmp_path: Path, run: Any) -> None:
    """Byte for byte, under their reasons; what is mended is read as if it had never been wrong."""
    file, bad = tmp_path / "hashes", tmp_path / "bad"
    file.write_bytes(b"\xef\xbb\xbfn\xe9e:{WHAT}x\r\njoe:!x\nok:$1$12345678$f8QoJuo0DpBRfQSD0vglc1\nnobody\n")
    assert run(str(file), "--bad", str(bad), "--dry-run")[0] == 1
    assert not bad.exists()
    assert run(str(file), "--bad", str(bad))[0] == 1
    lines = bad.read_bytes().split(b"\n")
    assert (bad.stat().st_mode & 0o777, lines[1], lines[3]) == (0o600, b"n\xe9e:{WHAT}x", b"nobody")
    assert lines[0].startswith(b"# line 1: ")
    bad.write_bytes(bad.read_bytes().replace(b"{WHAT}x", b"{MD5}X03MO1qnZdYdgyfeuILPmQ==").replace(b"nobody", b""))
    assert run(str(bad))[0] == 0
    assert run(str(file), "--bad", str(tmp_path / "no" / "bad"))[0] == 73
    assert run(str(file), "--bad", str(file))[0] == 64
    assert run(str(file), "--bad", str(bad), "--addresses")[0] == 64


def test_a_password_is_checked(file: Path, run: Any) -> None:
    """0 right, 77 wrong, 1 where nobody can tell; the password comes from stdin, bytes as they are."""
    number, vector = next((n, v) for n, v in enumerate(VECTORS) if not v.password.isascii())
    address = f"u{number}@d.test"
    assert run(str(file), "--verify", address.upper(), stdin=vector.password + b"\n")[0] == 0
    code, out, _ = run(str(file), "--verify", address, stdin=b"wrong\n")
    assert code == 77
    assert "is not the password" in out
    assert vector.text not in out
    assert run(str(file), "--verify", address, stdin=b"\n")[0] == 1
    assert run(str(file), "--verify", "nobody@d.test", stdin=b"x\n")[0] == 1
    code, out, _ = run(str(file), "--verify", address, "--json", stdin=vector.password)
    assert (code, json.loads(out)["right"]) == (0, True)


def test_a_roster_is_made(file: Path, run: Any) -> None:
    """One address a line."""
    code, out, _ = run(str(file), "--addresses")
    assert code == 0
    assert out.splitlines() == [f"u{n}@d.test" for n in range(len(VECTORS))]


def test_a_file_that_is_none(tmp_path: Path, run: Any) -> None:
    """Bad input is 65; a usage error is 64."""
    assert run(str(tmp_path / "none"))[0] == 65
    (tmp_path / "binary").write_bytes(b"\0\1")
    assert run(str(tmp_path / "binary"))[0] == 65
    assert run()[0] == 64
