"""The configuration: one TOML file, read strictly, with every problem listed by key and line.

Holds every default. Reads the files it names (passwords, rosters, the pilot list) and refuses secrets
that others may read. Never prints a value of a secret.
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from migrator.config_lines import locate_keys
from migrator.config_values import (
    parse_duration,
    parse_quota,
    read_boolean,
    read_choice,
    read_clean_text,
    read_create,
    read_endpoint,
    read_name,
    read_names,
    read_networks,
    read_number,
    read_optional,
    read_secret_text,
    read_senders,
    read_strings,
    read_template,
    read_text,
)
from migrator.live_file import LiveFile
from migrator.options import OptionTrouble, parse_copy_options
from migrator.roster import Roster
from migrator.settings import (
    CREATE_LIMIT,
    UNKNOWN_LIMIT,
    UNKNOWN_LIMIT_PER_CLIENT,
    CommuniGateSettings,
    DomainSettings,
    HelperSettings,
    LimitSettings,
    ProbeCacheSettings,
    Settings,
    StateSettings,
    WorkerSettings,
)
from wire.endpoint import TLS_MINIMA, TlsPolicy, parse_endpoint
from wire.secret import Secret

if TYPE_CHECKING:
    from migrator.alias_names import AliasNames

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

T = TypeVar("T")

DEFAULT_PATH: Final = Path("/etc/extauth/extauth.toml")
_NOBODY: Final[frozenset[str]] = frozenset()
_ALTERNATIVE: Final = {  # (verify, key) -> what else may be meant where its server is missing
    ("hashes", "copy"): '; if the old server is gone, write after_login = "nothing" or "export"'
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to change. `line` is 0 where no line of the file is to blame (a missing key, a variable)."""

    key: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.key}: {self.text}" if self.line else f"{self.key}: {self.text}"


class ConfigurationTrouble(Exception):
    """The configuration cannot be used. `files` are those whose change is worth another try."""

    def __init__(self, path: Path, problems: list[Problem], files: tuple[Path, ...]) -> None:
        self.path = path
        self.problems = problems
        self.files = files
        super().__init__("; ".join(f"{path}: {problem}" for problem in problems))

    def lines(self) -> list[str]:
        """Each problem as `FILE:LINE: key: text`, in the order of the file."""
        return [f"{self.path}:{p.line}: {p.key}: {p.text}" for p in self.problems]


class _Table:
    """One table of the file: takes keys out one by one and collects what is wrong with them."""

    def __init__(self, reader: _Reader, name: tuple[str, ...], values: Mapping[str, Any]) -> None:
        self.reader = reader
        self.name = name
        self.values = dict(values)

    def problem(self, key: str, text: str) -> None:
        self.reader.problem((*self.name, key), text)

    def missing(self, key: str, reason: str) -> None:
        """A problem, unless what is there for `key` is one already."""
        name = _dotted((*self.name, key))
        if all(problem.key != name for problem in self.reader.problems):
            self.problem(key, f"missing: {reason}")

    def take(self, key: str, read: Callable[[Any], T], default: T) -> T:
        """The value of `key` read by `read`, whose ValueError becomes a problem."""
        if key not in self.values:
            return default
        value = self.values.pop(key)
        try:
            return read(value)
        except ValueError as error:
            self.problem(key, str(error))
            return default

    def finish(self) -> None:
        for key in self.values:
            self.problem(key, "unknown key")


class _Reader:
    """Everything that was found wrong, and every file that was looked at."""

    def __init__(
        self,
        path: Path,
        lines: Mapping[tuple[str, ...], int],
        *,
        check_files: bool,
        check_keys: bool,
        check_places: bool,
    ) -> None:
        self.path = path
        self.lines = lines
        self.check_files = check_files
        self.check_keys = check_files and check_keys
        self.check_places = check_places
        self.variables: dict[tuple[str, ...], str] = {}  # keys set by the environment: the variables
        self.problems: list[Problem] = []
        self.files: list[Path] = [path]

    def problem(self, key: tuple[str, ...], text: str) -> None:
        line = next((self.lines[key[:n]] for n in range(len(key), 0, -1) if key[:n] in self.lines), 0)
        if (variable := self.variables.get(key[:2])) is not None:
            line, text = 0, f"{text} ({variable} sets it)"
        self.problems.append(Problem(_dotted(key), line, text))

    def check_place(self, key: tuple[str, ...], file: Path) -> None:
        """A missing directory that the file names is told to the operator; it never stops the helper, which lets users
        in without it."""
        if self.check_places and key in self.lines and not file.parent.is_dir():
            self.problem(key, f"there is no directory {file.parent}; make it, owned by the helper's user")

    def resolve(self, text: str) -> Path:
        path = Path(text)
        return path if path.is_absolute() else self.path.parent / path

    def secret_file(self, text: str) -> Secret:
        path = self.resolve(text)
        self.files.append(path)
        if not self.check_files:
            return Secret(b"")
        try:
            mode = path.stat().st_mode
            content = path.read_bytes()
        except OSError as error:
            raise ValueError(f"cannot read {path}: {error.strerror}") from None
        if stat.S_IMODE(mode) & 0o007:
            raise ValueError(f"{path} is open to everybody (mode {stat.S_IMODE(mode):04o}); chmod 600 it")
        line = content.split(b"\n", 1)[0].removesuffix(b"\r")
        if not line:
            raise ValueError(f"{path} holds no password on its first line")
        return Secret(line)

    def hash_file(self, key: tuple[str, ...], text: str) -> Path:
        """Told to the operator when it cannot be used; it never stops the helper, which answers FAILURE for the users
        of this one domain until it can."""
        path = self.resolve(text)
        if self.check_places:
            from migrator.hash_file import find_trouble  # noqa: PLC0415 - most sites have no hashes

            if trouble := find_trouble(path):
                self.problem(key, trouble)
        return path

    def list_file(self, text: str) -> frozenset[str]:
        path = self.resolve(text)
        self.files.append(path)
        if not self.check_files:
            return frozenset()
        try:
            content = path.read_text("utf-8", "surrogateescape")
        except OSError as error:
            raise ValueError(f"cannot read {path}: {error.strerror}") from None
        lines = (line.split("#", 1)[0].strip().lower() for line in content.splitlines())
        return frozenset(line for line in lines if line)


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
        text = raw.decode()
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
    reader = _Reader(path, locate_keys(text), check_files=check_files, check_keys=check_keys, check_places=check_places)
    _apply_environment(reader, document, environ)
    settings = _read_document(reader, document, mode)
    if reader.problems:
        problems = sorted(reader.problems, key=lambda p: (p.line == 0, p.line))
        raise ConfigurationTrouble(path, problems, tuple(reader.files))
    return settings


def _apply_environment(reader: _Reader, document: dict[str, Any], environ: Mapping[str, str]) -> None:
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


def _read_document(reader: _Reader, document: dict[str, Any], mode: int) -> Settings:
    sections = {}
    for name in ("communigate", "helper", "limits", "state", "worker", "domains"):
        value = document.pop(name, {})
        if not isinstance(value, dict):
            reader.problem((name,), "must be a table")
            value = {}
        sections[name] = value
    for name in document:
        reader.problem((name,), "unknown section; known are communigate, helper, limits, state, worker and domains")
    communigate = _read_communigate(_Table(reader, ("communigate",), sections["communigate"]), mode)
    helper = _read_helper(_Table(reader, ("helper",), sections["helper"]))
    limits = _read_limits(_Table(reader, ("limits",), sections["limits"]))
    worker = _read_worker(_Table(reader, ("worker",), sections["worker"]))
    domains: dict[str, DomainSettings] = {}
    for name, values in sections["domains"].items():
        if not isinstance(values, dict):
            reader.problem(("domains", name), 'must be a table: write [domains."example.com"]')
        elif name.lower() in domains:
            reader.problem(("domains", name), "this domain has a table already")
        else:
            table = _Table(reader, ("domains", name), values)
            domains[name.lower()] = _read_domain(table, name.lower(), communigate.main_domain)
    if not sections["domains"]:
        reader.problem(("domains",), 'no domain: write a table [domains."example.com"] or [domains.default]')
    state = _read_state(_Table(reader, ("state",), sections["state"]), domains)
    return Settings(reader.path, communigate, helper, state, worker, domains, tuple(reader.files), limits)


def _read_communigate(table: _Table, mode: int) -> CommuniGateSettings:
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
        main_domain=table.take("main_domain", lambda v: read_clean_text(v).lower(), ""),
        copy_as=table.take("copy_as", read_choice("user", "admin", "auto"), "auto"),
        tls=_read_tls(table),
    )
    table.finish()
    return settings


def _read_helper(table: _Table) -> HelperSettings:
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


def _read_state(table: _Table, domains: Mapping[str, DomainSettings]) -> StateSettings:
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


def _read_worker(table: _Table) -> WorkerSettings:
    settings = WorkerSettings(
        embedded=table.take("embedded", read_boolean, True),
        copies=table.take("copies", read_number(1, 1000), 4),
    )
    table.finish()
    return settings


def _read_limits(table: _Table) -> LimitSettings:
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


def _read_domain(table: _Table, name: str, main_domain: str) -> DomainSettings:
    imap = table.take("imap", read_optional(read_endpoint("imap")), None)
    pop = table.take("pop", read_optional(read_endpoint("pop3")), None)
    kind = "imap" if imap is not None or pop is None else "pop"
    roster_at = table.take("roster", read_text, "")
    roster = Roster(table.reader.resolve(roster_at), name) if roster_at else None
    if roster is not None and table.reader.check_places and (problem := roster.read().problem):
        table.problem("roster", f"{roster.path}: {problem}; whoever is not found in it gets FAILURE")
    aliases_at = table.take("aliases", read_text, "")
    aliases = _read_aliases(table, name, table.reader.resolve(aliases_at)) if aliases_at else None
    admin_password = None
    if "admin_password_file" in table.values:
        admin_password = table.take(
            "admin_password_file", lambda v: table.reader.secret_file(read_text(v)), Secret(b"")
        )
    hashes_at = table.take("hashes", read_clean_text, "")
    settings = DomainSettings(
        name=name,
        new=table.take("new", read_choice("probe", "roster", "refuse"), "probe"),
        smtp=table.take("smtp", read_optional(read_endpoint("smtp")), None),
        roster=roster,
        aliases=aliases,
        verify=table.take("verify", read_choice("imap", "pop", "hashes"), kind),
        imap=imap,
        pop=pop,
        hashes=table.reader.hash_file((*table.name, "hashes"), hashes_at) if hashes_at else None,
        login=table.take("login", read_template, "{user}"),
        old_domain=table.take("old_domain", lambda v: read_clean_text(v).lower(), ""),
        tls=_read_tls(table),
        after_login=table.take("after_login", read_choice("copy", "export", "copy+export", "nothing"), "copy"),
        copy=table.take("copy", read_choice("imap", "pop"), kind),
        copy_options=table.take("copy_options", read_strings, ()),
        max_connections=table.take("max_connections", read_number(1, 10_000), 10),
        accept_all=table.take("accept_all", read_choice("create", "roster", "route", "refuse"), "create"),
        admin_login=table.take("admin_login", read_clean_text, ""),
        admin_password=admin_password,
        forward_ip=table.take("forward_ip", read_boolean, False),
        apop=table.take("apop", read_boolean, False),
        helo=table.take("helo", read_clean_text, ""),
        # a server that refuses <> is asked in the name of an address that exists and takes bounces
        senders=table.take("senders", read_senders, ("", f"postmaster@{main_domain}") if main_domain else ("",)),
        cache=_read_probe_cache(table),
        create_limit=table.take("create_limit", parse_quota, CREATE_LIMIT),
        unknown_limit=table.take("unknown_limit", parse_quota, UNKNOWN_LIMIT),
        unknown_limit_per_client=table.take("unknown_limit_per_client", parse_quota, UNKNOWN_LIMIT_PER_CLIENT),
        grace=table.take("grace", parse_duration, 0.0),
        create=table.take("create", read_create, {}),
    )
    _check_domain(table, settings, bool(roster_at))
    table.finish()
    return settings


def _read_aliases(table: _Table, domain: str, path: Path) -> LiveFile[AliasNames]:
    from migrator.alias_names import broken, parse_alias_names  # noqa: PLC0415 - most configurations have no such file

    aliases = LiveFile(path, partial(parse_alias_names, domain=domain), broken)
    if table.reader.check_places and (problem := aliases.read().problem):
        table.problem("aliases", f"{path}: {problem}")
    return aliases


def _check_domain(table: _Table, domain: DomainSettings, has_roster: bool) -> None:
    if domain.new == "probe" and domain.smtp is None:
        table.missing("smtp", 'new = "probe" asks this server by SMTP')
    if not has_roster and "roster" in (domain.new, domain.accept_all):
        table.missing("roster", "a file of the known addresses, one a line")
    if domain.verify == "hashes" and domain.hashes is None:
        table.missing("hashes", 'verify = "hashes" looks passwords up in this file')
    for key, kind, reason in (
        ("verify", domain.verify, "passwords are tried there"),
        ("copy", domain.copy if domain.copies else "", "mail is copied from there"),
    ):
        if (kind == "imap" and domain.imap is None) or (kind == "pop" and domain.pop is None):
            table.missing(kind, f'{key} = "{kind}" and {reason}' + _ALTERNATIVE.get((domain.verify, key), ""))
    if domain.admin_login and domain.copies and domain.admin_password is None:
        table.problem("admin_login", "admin_password_file is missing: the file with its password")
    try:
        parse_copy_options(domain.copy_options, pop=domain.copy == "pop")
    except OptionTrouble as trouble:
        table.problem("copy_options", str(trouble))


def _read_probe_cache(table: _Table) -> ProbeCacheSettings:
    values = table.values.pop("cache", {})
    defaults = ProbeCacheSettings()
    if not isinstance(values, dict):
        table.problem("cache", 'must be a table such as { positive = "31d", refresh = "7d", negative = "30m" }')
        return defaults
    inner = _Table(table.reader, (*table.name, "cache"), values)
    cache = ProbeCacheSettings(
        positive=inner.take("positive", parse_duration, defaults.positive),
        refresh=inner.take("refresh", parse_duration, defaults.refresh),
        negative=inner.take("negative", parse_duration, defaults.negative),
        negative_refresh=inner.take("negative_refresh", parse_duration, defaults.negative_refresh),
    )
    inner.finish()
    return cache


def _read_tls(table: _Table) -> TlsPolicy:
    values = table.values.pop("tls", {})
    if not isinstance(values, dict):
        table.problem("tls", 'must be a table such as { verify = true, ca_file = "", minimum = "TLSv1.2" }')
        return TlsPolicy()
    inner = _Table(table.reader, (*table.name, "tls"), values)

    def ca_file(value: Any) -> str:
        if not read_text(value):
            return ""
        path = table.reader.resolve(value)
        if table.reader.check_files and not os.access(path, os.R_OK):
            raise ValueError(f"cannot read {path}")
        return str(path)

    policy = TlsPolicy(
        verify=inner.take("verify", read_boolean, True),
        ca_file=inner.take("ca_file", ca_file, ""),
        minimum=inner.take("minimum", read_choice(*TLS_MINIMA), "TLSv1.2"),
    )
    inner.finish()
    return policy


def _dotted(key: tuple[str, ...]) -> str:
    return ".".join(part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else f'"{part}"' for part in key)
