"""Accounts of an LDAP directory or an Exchange address list, from LDIF records. Pure.

Attributes: RFC 4519 (uid, cn, mail is RFC 4524), RFC 2307 (userPassword), Netscape/iPlanet and Sun Messaging
(mailAlternateAddress, mailForwardingAddress, mailQuota), qmail-ldap (mailQuotaSize, mailForwardingAddress), Active
Directory and Exchange (sAMAccountName, mailNickname, proxyAddresses, mDBStorageQuota in kilobytes).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from migrator.directory.entry import Entry, Standing, Stored, left_out
from migrator.directory.ldif import Record
from migrator.directory.quota import read_maildir_quota, read_quota
from migrator.directory.text_lines import clean_text
from wire.secret import Secret

_PROXY: Final = re.compile(r"(?:^|[\s;,%])(smtp):([^\s;,%]+@[^\s;,%]+)", re.IGNORECASE)
_NO_USERS: Final = frozenset(
    {"group", "groupofnames", "groupofuniquenames", "posixgroup", "mailgroup", "contact", "publicfolder", "computer",
     "organizationalunit", "organization", "domain", "dcobject", "container", "organizationalrole", "dl", "remote"}
)  # fmt: skip
_PERSONS: Final = frozenset({"person", "inetorgperson", "posixaccount", "mailrecipient", "inetmailuser", "user"})
_METHOD: Final = re.compile(rb"\{[A-Za-z0-9_./-]{1,32}\}|\$[0-9a-z]{1,10}\$")


def read_ldap(records: Iterable[Record]) -> Iterator[Entry]:
    """Accounts of a Netscape/iPlanet, Sun or OpenLDAP directory."""
    for record in records:
        yield _ldap_entry(record)


def read_exchange(records: Iterable[Record]) -> Iterator[Entry]:
    """Accounts of an Exchange address list (ldifde). It has no passwords."""
    for record in records:
        yield _exchange_entry(record)


def _unusable(record: Record) -> Entry | None:
    dn = clean_text(record.dn.decode("utf-8", "backslashreplace"))
    if record.trouble:
        return Entry(record.line, record.raw, dn, standing=Standing.BAD, reason=record.trouble)
    classes = {text.lower() for text in record.texts("objectClass")}
    if classes & _NO_USERS and not classes & _PERSONS:
        kind = ", ".join(sorted(classes & _NO_USERS))
        return left_out(record.line, record.raw.reveal(), f"it is no user ({kind})", name=dn)
    if "computer" in classes:  # Active Directory makes them users too
        return left_out(record.line, record.raw.reveal(), "it is no user (computer)", name=dn)
    return None


def _ldap_entry(record: Record) -> Entry:
    unusable = _unusable(record)
    if unusable is not None:
        return unusable
    uid, mail = record.text("uid"), record.text("mail")
    if not uid and not mail:
        return left_out(
            record.line,
            record.raw.reveal(),
            "it has neither uid nor mail",
            name=clean_text(record.dn.decode("utf-8", "backslashreplace")),
        )
    try:
        quota = read_maildir_quota(record.text("mailQuota", "mailQuotaSize"))
    except ValueError as error:
        return Entry(record.line, record.raw, uid or mail, standing=Standing.BAD, reason=f"mailQuota: {error}")
    return Entry(
        record.line,
        record.raw,
        uid or mail,
        address=mail,
        passwords=tuple(read_user_password(value) for value in record.attributes.get("userpassword", ()) if value),
        real_name=clean_text(record.text("cn", "displayName", "gecos")),
        aliases=(*record.texts("mail")[1:], *record.texts("mailAlternateAddress")),
        forwards=_forwards(record),
        quota=quota,
    )


def _forwards(record: Record) -> tuple[str, ...]:
    """Where mail is sent on to, with the user's own address where a copy stays: it does, unless the entry says no."""
    targets = record.texts("mailForwardingAddress")
    options = {text.lower() for text in record.texts("mailDeliveryOption")}
    modes = {text.lower() for text in record.texts("deliveryMode")}  # qmail-ldap
    if options and "forward" not in options:
        return ()  # the address is there, but not in use
    stays = "mailbox" in options if options else not modes & {"nolocal", "forwardonly"}
    own = record.text("mail") or record.text("uid")
    return (*targets, own) if targets and stays else tuple(targets)


def read_user_password(value: bytes) -> Stored:
    """A userPassword: {method} or $method$ before a hash, else the password itself (RFC 2307 5.3)."""
    return Stored(Secret(value), clear=not _METHOD.match(value))


def _exchange_entry(record: Record) -> Entry:
    unusable = _unusable(record)
    if unusable is not None:
        return unusable
    primary, others = proxy_addresses(record.texts("proxyAddresses"))
    primary = primary or record.text("mail")
    login = record.text("sAMAccountName", "mailNickname", "uid")
    if not primary:
        return left_out(record.line, record.raw.reveal(), "it has no SMTP address", name=login)
    forward = record.text("targetAddress")
    try:
        quota = read_quota(record.text("mDBOverHardQuotaLimit", "mDBStorageQuota"), unit="K")
    except ValueError as error:
        return Entry(record.line, record.raw, login or primary, standing=Standing.BAD, reason=f"quota: {error}")
    return Entry(
        record.line,
        record.raw,
        login or primary,
        address=primary,
        real_name=clean_text(record.text("displayName", "cn")),
        aliases=tuple(others),
        forwards=(re.sub(r"^smtp:", "", forward, flags=re.IGNORECASE),) if forward else (),
        quota=quota,
    )


def proxy_addresses(values: Iterable[str]) -> tuple[str, list[str]]:
    """The main address (`SMTP:`) and the others (`smtp:`) of proxyAddresses; X.400, SIP and the like are passed over.

    Several may stand in one value, as in lists that were saved as CSV, with blanks or one of `;,%` between them.
    """
    primary, others = "", []
    for value in values:
        for kind, address in _PROXY.findall(value):
            if kind == "SMTP" and not primary:
                primary = address
            else:
                others.append(address)
    return primary, others
