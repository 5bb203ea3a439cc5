"""One table of `[domains]`, read: the old server of a domain, how it is asked, and what is copied from it."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from migrator.config_table import Table
from migrator.config_values import (
    parse_quota,
    read_boolean,
    read_choice,
    read_clean_text,
    read_create,
    read_domain_name,
    read_endpoint,
    read_number,
    read_optional,
    read_senders,
    read_strings,
    read_template,
    read_text,
)
from migrator.live_file import LiveFile
from migrator.options import OptionTrouble, parse_copy_options
from migrator.quantities import parse_duration
from migrator.roster import Roster
from migrator.settings import (
    CREATE_LIMIT,
    UNKNOWN_LIMIT,
    UNKNOWN_LIMIT_PER_CLIENT,
    DomainSettings,
    ProbeCacheSettings,
)
from wire.endpoint import TLS_MINIMA, TlsPolicy
from wire.secret import Secret

if TYPE_CHECKING:
    from migrator.alias_names import AliasNames

_ALTERNATIVE: Final = {  # (verify, key) -> what else may be meant where its server is missing
    ("hashes", "copy"): '; if the old server is gone, write after_login = "nothing" or "export"'
}


def read_domain(table: Table, name: str, main_domain: str) -> DomainSettings:
    """The whole table; what is wrong is a problem of its reader."""
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
        old_domain=table.take("old_domain", read_domain_name, ""),
        tls=read_tls(table),
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


def _read_aliases(table: Table, domain: str, path: Path) -> LiveFile[AliasNames]:
    from migrator.alias_names import broken, parse_alias_names  # noqa: PLC0415 - most configurations have no such file

    aliases = LiveFile(path, partial(parse_alias_names, domain=domain), broken)
    if table.reader.check_places and (problem := aliases.read().problem):
        table.problem("aliases", f"{path}: {problem}")
    return aliases


def _check_domain(table: Table, domain: DomainSettings, has_roster: bool) -> None:
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


def _read_probe_cache(table: Table) -> ProbeCacheSettings:
    values = table.values.pop("cache", {})
    defaults = ProbeCacheSettings()
    if not isinstance(values, dict):
        table.problem("cache", 'must be a table such as { positive = "31d", refresh = "7d", negative = "30m" }')
        return defaults
    inner = Table(table.reader, (*table.name, "cache"), values)
    cache = ProbeCacheSettings(
        positive=inner.take("positive", parse_duration, defaults.positive),
        refresh=inner.take("refresh", parse_duration, defaults.refresh),
        negative=inner.take("negative", parse_duration, defaults.negative),
        negative_refresh=inner.take("negative_refresh", parse_duration, defaults.negative_refresh),
    )
    inner.finish()
    return cache


def read_tls(table: Table) -> TlsPolicy:
    """The inner table `tls`, of a domain or of CommuniGate."""
    values = table.values.pop("tls", {})
    if not isinstance(values, dict):
        table.problem("tls", 'must be a table such as { verify = true, ca_file = "", minimum = "TLSv1.2" }')
        return TlsPolicy()
    inner = Table(table.reader, (*table.name, "tls"), values)

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
