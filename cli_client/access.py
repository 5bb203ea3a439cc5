"""Where `cgcli` finds the server, the login and the password. Never on its command line or in a variable's echo."""

from __future__ import annotations

import getpass
import os
import stat
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from wire.endpoint import TLS_MINIMA, Endpoint, TlsPolicy, parse_endpoint
from wire.secret import Secret

DEFAULT_CONFIG = Path("/etc/extauth/extauth.toml")
_PASSWORD_FILE = "/etc/extauth/cli.password"  # noqa: S105  # a path, not a password


@dataclass(frozen=True, slots=True)
class Access:
    """How to log in; `password` is None where it has to be asked for."""

    endpoint: Endpoint
    login: str
    password: Secret | None
    tls: TlsPolicy


def read_access(path: Path, environ: Mapping[str, str]) -> Access:
    """The `[communigate]` table of the configuration. ValueError, a sentence for a person, if it cannot be used."""
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    table = document.get("communigate", {})
    if not isinstance(table, dict):
        raise ValueError(f"{path}: communigate must be a table")
    if "password" in table and stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise ValueError(f"{path} holds a password and is open to others; chmod 600 it")
    for key in ("cli", "login", "password", "password_file"):
        value = environ.get(f"EXTAUTH_COMMUNIGATE__{key.upper()}")
        if value is not None:
            if key.startswith("password"):
                table.pop("password", None)
            table[key] = value
    try:
        return Access(
            parse_endpoint(_text(table, "cli", "127.0.0.1:106"), "cli"),
            _text(table, "login", "postmaster"),
            _configured_password(table, path),
            _tls(table.get("tls", {}), path),
        )
    except ValueError as error:
        raise ValueError(f"{path}: communigate: {error}") from None


def read_password_file(path: Path) -> Secret:
    """The first line of a file that is closed to others. ValueError if there is none."""
    try:
        with path.open("rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o007:
                raise ValueError(f"{path} is open to everybody; chmod 600 it")
            return first_line(file, str(path))
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None


def first_line(file: BinaryIO, name: str) -> Secret:
    """The next line of `file` without its line end, as a password. ValueError if it is empty."""
    line = file.readline().removesuffix(b"\n").removesuffix(b"\r")
    if not line:
        raise ValueError(f"{name} holds no password on its first line")
    return Secret(line)


def ask_password(login: str) -> Secret:
    """The password from the terminal, without echo; or the first line of stdin where stdin is no terminal.

    ValueError where none is given.
    """
    if sys.stdin.isatty():
        try:
            return Secret(getpass.getpass(f"Password of {login}: ").encode("utf-8", "surrogateescape"))
        except EOFError:  # Ctrl-D
            raise ValueError("no password was typed") from None
    return first_line(sys.stdin.buffer, "standard input")


def _text(table: Mapping[str, Any], key: str, default: str) -> str:
    value = table.get(key, default)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{key} must be a string that is not empty")
    return value


def _configured_password(table: Mapping[str, Any], path: Path) -> Secret:
    if "password" in table:
        if "password_file" in table:
            raise ValueError("password and password_file are both set; keep one of them")
        return Secret(_text(table, "password", "").encode("utf-8", "surrogateescape"))
    return read_password_file(path.parent / _text(table, "password_file", _PASSWORD_FILE))


def _tls(table: object, path: Path) -> TlsPolicy:
    if not isinstance(table, dict):
        raise ValueError("tls must be a table")
    verify = table.get("verify", True)
    ca_file = table.get("ca_file", "")
    minimum = table.get("minimum", "TLSv1.2")
    if not isinstance(verify, bool) or not isinstance(ca_file, str) or minimum not in TLS_MINIMA:
        raise ValueError('tls is a table such as { verify = true, ca_file = "", minimum = "TLSv1.2" }')
    return TlsPolicy(verify, str(path.parent / ca_file) if ca_file else "", minimum)
