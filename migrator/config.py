"""The configuration: one TOML file, read strictly, with every problem listed by key and line.

Holds every default. Reads the files it names (passwords, rosters, the pilot list) and refuses secrets
that others may read. Never prints a value of a secret.
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from migrator.account_name import is_domain
from migrator.config_domain import read_domain, read_tls
from migrator.config_lines import locate_keys
from migrator.config_table import ConfigurationTrouble, Problem, Reader, Table
from migrator.config_values import (
    NOT_A_DOMAIN,
    parse_quota,
    read_boolean,
    read_choice,
    read_domain_name,
    read_endpoint,
    read_name,
    read_names,
    read_networks,
    read_number,
    read_secret_text,
    read_text,
)
from migrator.quantities import parse_duration
from migrator.settings import (
    CommuniGateSettings,
    DomainSettings,
    HelperSettings,
    LimitSettings,
    Settings,
    StateSettings,
    WorkerSettings,
)
from wire.endpoint import parse_endpoint
from wire.secret import Secret

if TYPE_CHECKING:
    pass

__all__ = [
    "DEFAULT_PATH",
    "CommuniGateSettings",
    "ConfigurationTrouble",
    "DomainSettings",
    "HelperSettings",
    "Problem",
    "Settings",
    "StateSettings",
    "WorkerSettings",
    "load_settings",
]

DEFAULT_PATH: Final = Path("/etc/extauth/extauth.toml")
_NOBODY: Final[frozenset[str]] = frozenset()


def load_settings(
    path: Path,
    environ: Mapping[str, str] = os.environ,
    *,
    check_files: bool = True,
    check_keys: bool = True,
    check_places: bool = False,
) -> Settings:
    """Read and check `path`. ConfigurationTrouble lists every problem at once.

    `check_files=False` leaves out the files it names (for the command that makes the keys), `check_keys=False` only
    those keys; `check_places=True` also looks whether the directories of state and log are there.
    """
    path = Path(path)
    try:
        raw = path.read_bytes()
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        raise ConfigurationTrouble(path, [Problem("file", 0, f"cannot read it: {error.strerror}")], (path,)) from None
    try:
        text = raw.decode("utf-8-sig")  # editors on Windows begin a file with this mark
        document = tomllib.loads(text)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigurationTrouble(path, [Problem("file", line, "not UTF-8")], (path,)) from None
    except tomllib.TOMLDecodeError as error:
        at = re.search(r"at line (\d+)", str(error))
        line = int(at[1]) if at else raw.count(b"\n") + 1
        # only the place: the text of a broken line may hold a password
        found = [Problem("syntax", line, "not valid TOML here or just before: " + str(error).split(" (at", 1)[0])]
        raise ConfigurationTrouble(path, found, (path,)) from None
    reader = Reader(path, locate_keys(text), check_files=check_files, check_keys=check_keys, check_places=check_places)
    _apply_environment(reader, document, environ)
    settings = _read_document(reader, document, mode)
    if reader.problems:
        problems = sorted(reader.problems, key=lambda p: (p.line == 0, p.line))
        raise ConfigurationTrouble(path, problems, tuple(reader.files))
    return settings


def _apply_environment(reader: Reader, document: dict[str, Any], environ: Mapping[str, str]) -> None:
    for name, text in environ.items():
        section, mark, key = name.removeprefix("EXTAUTH_").partition("__")
        if not name.startswith("EXTAUTH_") or not mark:
            continue
        section, key = section.lower(), key.lower()
        if section not in ("communigate", "helper", "limits", "state", "worker"):
            reader.problem(
                (name,), "no such section; variables set keys of communigate, helper, limits, state and worker"
            )
            continue
        table = document.setdefault(section, {})
        if not isinstance(table, dict):
            continue  # reported as a wrong type below
        if section == "communigate" and key in ("password", "password_file"):
            table.pop("password", None)
            table.pop("password_file", None)
        table[key] = _environment_value(key, text)
        reader.variables[section, key] = name


def _environment_value(key: str, text: str) -> Any:
    """A number, boolean, list or table as TOML writes it; everything else is the string itself."""
    if key in ("password", "main_domain", "login"):
        return text
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, KeyError):
        return text
    return value if isinstance(value, int | list | dict | str) else text


def _read_document(reader: Reader, document: dict[str, Any], mode: int) -> Settings:
    sections = {}
    for name in ("communigate", "helper", "limits", "state", "worker", "domains"):
        value = document.pop(name, {})
        if not isinstance(value, dict):
            reader.problem((name,), "must be a table")
            value = {}
        sections[name] = value
    for name in document:
        reader.problem((name,), "unknown section; known are communigate, helper, limits, state, worker and domains")
    communigate = _read_communigate(Table(reader, ("communigate",), sections["communigate"]), mode)
    helper = _read_helper(Table(reader, ("helper",), sections["helper"]))
    limits = _read_limits(Table(reader, ("limits",), sections["limits"]))
    worker = _read_worker(Table(reader, ("worker",), sections["worker"]))
    domains: dict[str, DomainSettings] = {}
    for name, values in sections["domains"].items():
        if not isinstance(values, dict):
            reader.problem(("domains", name), 'must be a table: write [domains."example.com"]')
        elif name.lower() in domains:
            reader.problem(("domains", name), "this domain has a table already")
        else:
            table = Table(reader, ("domains", name), values)
            if not is_domain(name.lower()):
                reader.problem(table.name, NOT_A_DOMAIN)
            domains[name.lower()] = read_domain(table, name.lower(), communigate.main_domain)
    if not sections["domains"]:
        reader.problem(("domains",), 'no domain: write a table [domains."example.com"] or [domains.default]')
    state = _read_state(Table(reader, ("state",), sections["state"]), domains)
    return Settings(reader.path, communigate, helper, state, worker, domains, tuple(reader.files), limits)


def _read_communigate(table: Table, mode: int) -> CommuniGateSettings:
    password = Secret(b"")
    if "password" in table.values:
        password = table.take("password", read_secret_text, password)
        if ("communigate", "password") in table.reader.lines and mode & 0o077:
            table.problem("password", f"the file holds a password but has mode {mode:04o}; chmod 600 it")
        if "password_file" in table.values:
            table.problem("password_file", "password is set too; keep one of them")
            table.values.pop("password_file")
    else:
        table.values.setdefault("password_file", "/etc/extauth/cli.password")
        password = table.take("password_file", lambda v: table.reader.secret_file(read_text(v)), password)
    settings = CommuniGateSettings(
        cli=table.take("cli", read_endpoint("cli"), parse_endpoint("127.0.0.1:106", "cli")),
        login=table.take("login", read_name, "postmaster"),
        password=password,
        imap=table.take("imap", read_endpoint("imap"), parse_endpoint("127.0.0.1:143", "imap")),
        smtp=table.take("smtp", read_endpoint("smtp"), parse_endpoint("127.0.0.1:25", "smtp")),
        connections=table.take("connections", read_number(1, 1000), 4),
        protected=table.take("protected", read_names, frozenset({"postmaster", "pbx"})),
        main_domain=table.take("main_domain", read_domain_name, ""),
        copy_as=table.take("copy_as", read_choice("user", "admin", "auto"), "auto"),
        tls=read_tls(table),
    )
    table.finish()
    return settings


def _read_helper(table: Table) -> HelperSettings:
    pilot_text = table.take("pilot", read_text, "")
    pilot = None
    if pilot_text:
        table.values["pilot"] = pilot_text
        pilot = table.take("pilot", lambda v: table.reader.list_file(read_text(v)), _NOBODY)
    deadline = table.take("deadline", parse_duration, 15.0)
    if deadline <= 0:
        table.problem("deadline", "must be longer than nothing")
    settings = HelperSettings(
        deadline=deadline,
        concurrency=table.take("concurrency", read_number(1, 100_000), 200),
        log=table.reader.resolve(table.take("log", read_text, "/var/log/extauth/helper.log")),
        temporary=table.take("temporary", read_choice("FAILURE", "ERROR"), "FAILURE"),
        interface=table.take("interface", read_number(1, 1000), 7),
        guards=table.take("guards", read_boolean, True),
        pilot=pilot,
        suspect_after=table.take("suspect_after", parse_duration, 30 * 86_400.0),
        probe_answers=table.take("probe_answers", read_number(1000, 100_000_000), 200_000),
    )
    table.reader.check_place((*table.name, "log"), settings.log)
    table.finish()
    return settings


def _read_state(table: Table, domains: Mapping[str, DomainSettings]) -> StateSettings:
    reader = table.reader

    def sqlite_url(value: Any) -> str:
        url = read_text(value)
        if url.startswith("postgresql://"):
            raise ValueError("this version keeps its state in SQLite only: sqlite:////path/state.db")
        if not url.startswith("sqlite:///") or not url.removeprefix("sqlite:///"):
            raise ValueError("must be sqlite:////absolute/path/state.db")
        return url

    url = table.take("url", sqlite_url, "sqlite:////var/lib/extauth/state.db")

    def public_key(value: Any) -> Path:
        path = reader.resolve(read_text(value))
        reader.files.append(path)
        seals = any(domain.copies or domain.exports for domain in domains.values())
        if reader.check_keys and seals and not os.access(path, os.R_OK):
            raise ValueError(f"cannot read {path}; `migrator keygen --config {reader.path}` makes it")
        return path

    def private_key(value: Any) -> Path:
        path = reader.resolve(read_text(value))
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
        except OSError:
            return path  # not there, or not ours to look at: only the worker opens it
        if reader.check_keys and mode & 0o077:
            raise ValueError(f"{path} is open to others (mode {mode:04o}); chmod 600 it")
        return path

    def digest_key(value: Any) -> Path:
        path = reader.resolve(read_text(value))
        if any(domain.grace for domain in domains.values()):
            from migrator.digest_key import find_trouble  # noqa: PLC0415 - grace is off by default

            reader.files.append(path)
            if reader.check_keys and (trouble := find_trouble(path)):
                raise ValueError(trouble)
        return path

    table.values.setdefault("digest_key_file", "/etc/extauth/digest.key")
    table.values.setdefault("public_key_file", "/etc/extauth/seal.pub")
    table.values.setdefault("key_file", "/etc/extauth/seal.key")
    settings = StateSettings(
        url=url,
        path=reader.resolve(url.removeprefix("sqlite:///")),
        public_key_file=table.take("public_key_file", public_key, Path()),
        key_file=table.take("key_file", private_key, Path()),
        keep_password=table.take("keep_password", read_choice("done", "retired"), "done"),
        digest_key_file=table.take("digest_key_file", digest_key, Path()),
    )
    reader.check_place((*table.name, "url"), settings.path)
    table.finish()
    return settings


def _read_worker(table: Table) -> WorkerSettings:
    settings = WorkerSettings(
        embedded=table.take("embedded", read_boolean, True),
        copies=table.take("copies", read_number(1, 1000), 4),
    )
    table.finish()
    return settings


def _read_limits(table: Table) -> LimitSettings:
    defaults = LimitSettings()
    limits = LimitSettings(
        remember_refused=table.take("remember_refused", parse_duration, defaults.remember_refused),
        wrong_per_account=table.take("wrong_per_account", parse_quota, defaults.wrong_per_account),
        wrong_per_client=table.take("wrong_per_client", parse_quota, defaults.wrong_per_client),
        slow_down=table.take("slow_down", parse_duration, defaults.slow_down),
        shared=table.take("shared", read_networks, defaults.shared),
    )
    if limits.slow_down > defaults.slow_down:
        table.problem("slow_down", "at most 2s: a user whose account is attacked waits so long too")
    table.finish()
    return limits
