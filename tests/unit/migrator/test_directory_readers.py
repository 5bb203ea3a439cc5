"""Readers of account files: what each format says of an account, and how its bad lines are named."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from migrator.directory.entry import Entry, Standing
from migrator.directory.ldap_entries import proxy_addresses, read_exchange, read_ldap, read_user_password
from migrator.directory.ldif import read_records
from migrator.directory.postfix_maps import read_mailbox_map
from migrator.directory.quota import read_dovecot_quota, read_maildir_quota, read_quota, render_size
from migrator.directory.tables import Layout, parse_columns, read_exchange_table, read_table
from migrator.directory.text_lines import BadFile, numbered_lines
from migrator.directory.unix_files import (
    read_dovecot,
    read_master_passwd,
    read_passwd,
    read_shadow,
    shadow_passwords,
)


def lines(text: str | bytes) -> list[tuple[int, bytes]]:
    data = text.encode() if isinstance(text, str) else text
    return list(enumerate(data.splitlines(), 1))


def brief(entries: Iterable[Entry]) -> list[tuple[int, str, str]]:
    """Line, name, and why it is no account."""
    return [(entry.line, entry.name, entry.reason) for entry in entries]


def password(entry: Entry) -> bytes:
    return entry.passwords[0].text.reveal()


def test_passwd_and_shadow() -> None:
    text = "root:x:0:0:root:/root:/bin/sh\n+::::::\n# note\njohn:x:1001:100:John & Co,Room 1:/home/john:/bin/false\n"
    shadow = shadow_passwords(lines("john:$1$a$b:19000:0:99999:7:::\nroot:!:1:::::::\n"))
    root, john = read_passwd(lines(text), shadow=shadow)
    assert (root.standing, root.name) == (Standing.LEFT_OUT, "root")
    assert (john.name, john.real_name, password(john)) == (
        "john",
        "John John Co".replace("John Co", "John Co"),
        b"$1$a$b",
    )
    assert "$1$" not in repr(john)


def test_a_passwd_line_with_its_own_password() -> None:
    (ann,) = read_passwd(lines("ann:AslUzT1JkPsocc:1002:100::/home/ann:"))
    assert password(ann) == b"AslUzT1JkPsocc"
    (bob,) = read_passwd(lines("bob:x:1003:100::/home/bob:"))
    assert password(bob) == b"x"  # kept elsewhere, which the password's reader says


def test_bad_unix_lines_are_named() -> None:
    found = brief(read_passwd(lines(b"a:b\n:x:1000:1:::\nb:x:many:1:::\nc\xff:x:1000:1:::\n")))
    assert [line for line, _, _ in found] == [1, 2, 3, 4]
    assert [reason.split(":")[0] for _, _, reason in found] == [
        "it has 2 fields where 7 belong",
        "there is no name",
        "its user id is no number",
        "it is not UTF-8",
    ]


def test_shadow_alone() -> None:
    daemon, john, locked = read_shadow(lines("daemon:*:1::::::\njohn:$6$x$y:1::::::\nold:!$1$a$b:1::::::\n"))
    assert (daemon.standing, john.standing, locked.standing) == (
        Standing.LEFT_OUT,
        Standing.ACCOUNT,
        Standing.ACCOUNT,  # locked, which the password's reader says
    )


def test_master_passwd() -> None:
    text = "toor:*:0:0::0:0:Root:/root:\njo:$2b$04$abc:1001:1001:staff:0:0:Jo Doe,,,:/home/jo:/bin/sh\n"
    toor, jo = read_master_passwd(lines(text))
    assert (toor.standing, jo.real_name, password(jo)) == (Standing.LEFT_OUT, "Jo Doe", b"$2b$04$abc")


def test_dovecot_passwd_file() -> None:
    text = (
        "ann@example.com:{SHA}x:5000:5000::/home/ann::userdb_quota_rule=*:storage=2G userdb_mail=maildir:~/Maildir\n"
        "bob@example.com:{PLAIN}pass word\n"
        "open@example.com::::::: nopassword=y\n"
        "bad@example.com:{SHA}x::::::userdb_quota_rule=*:storage=much\n"
    )
    ann, bob, nobody, bad = read_dovecot(lines(text))
    assert (ann.name, ann.quota, password(bob)) == ("ann@example.com", 2 << 30, b"{PLAIN}pass word")
    assert [(nobody.standing, bad.standing)] == [(Standing.BAD, Standing.BAD)]
    assert "nopassword" in nobody.reason
    assert "much" in bad.reason


@pytest.mark.parametrize(
    ("text", "unit", "size"),
    [
        ("", "", None), ("-1", "", None), ("0", "K", None), ("1024", "", 1024), ("10K", "", 10240),
        ("31m", "", 31 << 20),
        ("1.5G", "", 3 << 29), ("100", "M", 100 << 20), ("100 MB", "", 100 << 20), ("unlimited", "", None),
    ],
)  # fmt: skip
def test_quota(text: str, unit: str, size: int | None) -> None:
    assert read_quota(text, unit=unit) == size


@pytest.mark.parametrize("text", ["much", "-5", "10X", "1e9", "1" * 20, "١٠"])
def test_no_quota(text: str) -> None:
    with pytest.raises(ValueError, match="no size"):
        read_quota(text)


def test_quotas_of_other_kinds() -> None:
    assert (read_maildir_quota("1000S,50C"), read_maildir_quota("50C"), read_maildir_quota("5M")) == (
        1000,
        None,
        5 << 20,
    )
    assert (read_dovecot_quota("*:storage=10"), read_dovecot_quota("*:bytes=10")) == (10240, 10)
    assert [render_size(size) for size in (1, 1024, 1025, 31 << 20, 2 << 30)] == ["1K", "1K", "2K", "31M", "2G"]


LDIF = """\
version: 1

# a container
dn: ou=People,dc=example,dc=com
objectClass: organizationalUnit
ou: People

dn: uid=john,ou=People,dc=example,dc=com
objectClass: inetOrgPerson
uid: john
cn:: SsO2cmcgRMO2
mail: john@example.com
mailAlternateAddress: J.Doe@example.com
mailAlternateAddress: jd@elsewhere.example
mailForwardingAddress: john@far.example
mailQuota: 10485760
userPassword:: e1NIQX1VZTRFcmJp
 bTJUQzdDbXV1a01PQmVqZXl0cjI9

dn: uid=url,ou=People,dc=example,dc=com
uid: url
userPassword:< file:///etc/shadow

dn: uid=gone,ou=People,dc=example,dc=com
changetype: delete

dn: uid=clear,ou=People,dc=example,dc=com
changetype: add
uid: clear
userPassword: secret word
mailDeliveryOption: forward
mailForwardingAddress: x@far.example

dn: cn=staff,dc=example,dc=com
objectClass: groupOfNames
cn: staff
mail: staff@example.com
"""


def test_ldap() -> None:
    container, john, url, gone, clear, staff = read_ldap(read_records(lines(LDIF)))
    assert (container.standing, staff.standing) == (Standing.LEFT_OUT, Standing.LEFT_OUT)
    assert (john.line, john.name, john.address, john.real_name) == (8, "john", "john@example.com", "Jörg Dö")
    assert john.aliases == ("J.Doe@example.com", "jd@elsewhere.example")
    assert (john.forwards, john.quota) == (("john@far.example", "john@example.com"), 10 << 20)
    assert (password(john), john.passwords[0].clear) == (b"{SHA}Ue4Erbim2TC7CmuukMOBejeytr2=", False)
    assert (url.standing, "line 22" in url.reason, "never opened" in url.reason) == (Standing.BAD, True, True)
    assert (gone.standing, "delete" in gone.reason) == (Standing.BAD, True)
    assert (password(clear), clear.passwords[0].clear) == (b"secret word", True)
    assert clear.forwards == ("x@far.example",)  # no copy stays


@pytest.mark.parametrize(
    ("value", "clear"),
    [(b"{SSHA}abc", False), (b"$1$a$b", False), (b"AslUzT1JkPsocc", True), (b"{", True), (b"$5", True)],
)
def test_user_password_without_a_method_is_the_password(value: bytes, clear: bool) -> None:
    assert read_user_password(value).clear is clear


def test_exchange_ldif() -> None:
    text = (
        "dn: CN=Ann,DC=x\nobjectClass: user\nsAMAccountName: ann01\ndisplayName: Ann Lee\nmDBOverHardQuotaLimit: 2048\n"
        "proxyAddresses: smtp:alee@example.com\nproxyAddresses: SMTP:Ann.Lee@example.com\n"
        "proxyAddresses: X400:c=US;a= ;\n\n"
        "dn: CN=All,DC=x\nobjectClass: group\nproxyAddresses: SMTP:all@example.com\n\n"
        "dn: CN=PC,DC=x\nobjectClass: user\nobjectClass: computer\nsAMAccountName: PC$\n"
    )
    ann, group, computer = read_exchange(read_records(lines(text)))
    assert (ann.name, ann.address, ann.aliases, ann.quota) == (
        "ann01",
        "Ann.Lee@example.com",
        ("alee@example.com",),
        2 << 20,
    )
    assert (group.standing, computer.standing) == (Standing.LEFT_OUT, Standing.LEFT_OUT)


def test_several_proxy_addresses_in_one_cell() -> None:
    cell = "SMTP:a@x.test;smtp:b@x.test;X400:c=US;a= ;p=Org;sip:a@x.test"
    assert proxy_addresses([cell]) == ("a@x.test", ["b@x.test"])
    assert proxy_addresses(["smtp:b@x.test%SMTP:a@x.test%X400:c=US"]) == ("a@x.test", ["b@x.test"])
    assert proxy_addresses(["xsmtp:b@x.test"]) == ("", [])


def test_exchange_csv() -> None:
    text = (
        "#TYPE Deserialized.Mailbox\n"
        '"DisplayName","Alias","PrimarySmtpAddress","EmailAddresses","RecipientTypeDetails"\n'
        '"Lee, Ann","alee","ann@example.com","SMTP:ann@example.com smtp:lee@example.com","UserMailbox"\n'
        '"Team","team","team@example.com","SMTP:team@example.com","MailUniversalDistributionGroup"\n'
        '"Outside","out","o@far.example","SMTP:o@far.example","MailContact"\n'
    )
    ann, *others = read_exchange_table(lines(text), Layout())
    assert (ann.name, ann.address, ann.aliases, ann.real_name) == (
        "alee",
        "ann@example.com",
        ("lee@example.com",),
        "Lee, Ann",
    )
    assert [entry.standing for entry in others] == [Standing.LEFT_OUT] * 2


def test_csv_with_a_map() -> None:
    text = 'login;pw;full;box\njohn;j27ss#45;"Doe; ""J""\nJohn";10\n"jim;x\n'
    layout = Layout(";", columns=parse_columns("Name=login,Password=pw,RealName=full,Limit=box"), quota_unit="M")
    john, jim = read_table(lines(text), layout)
    assert (john.line, john.real_name, john.quota, password(john)) == (2, 'Doe; "J" John', 10 << 20, b"j27ss#45")
    assert (jim.line, jim.standing) == (4, Standing.BAD)


def test_the_guides_account_list_needs_no_map() -> None:
    text = "Name\tLimit\tPassword\njohn\t10K\tj27ss#45\njim\t120K\tdud-ee\ngeorge\t31M\tmia#hj!\n"
    found = list(read_table(lines(text), Layout("\t", quoted=False)))
    assert [(entry.name, entry.quota, password(entry)) for entry in found] == [
        ("john", 10 << 10, b"j27ss#45"),
        ("jim", 120 << 10, b"dud-ee"),
        ("george", 31 << 20, b"mia#hj!"),
    ]


def test_a_table_without_a_header() -> None:
    layout = Layout("\t", quoted=False, header=False, columns=parse_columns("Name=2,UnixPassword=1"))
    (found,) = read_table(lines("hash\tjohn\n"), layout)
    assert (found.name, password(found)) == ("john", b"hash")


@pytest.mark.parametrize(
    ("header", "columns", "reason"),
    [("a,b", "Name=c", "no column c"), ("a,b", "", "no column is called Name"), ("Name,name", "", "more than once")],
)
def test_a_table_that_cannot_be_used(header: str, columns: str, reason: str) -> None:
    layout = Layout(columns=parse_columns(columns) if columns else None)
    with pytest.raises(BadFile, match=reason):
        list(read_table(lines(f"{header}\n1,2\n"), layout))


@pytest.mark.parametrize("text", ["Name", "Shoe=1", "RealName=x", "Name="])
def test_a_map_that_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"FIELD=COLUMN|needs Name"):
        parse_columns(text)


def test_rows_with_too_many_fields_are_bad() -> None:
    found = brief(read_table(lines("Name,Password\na,b,c\nb,c,\nc\n"), Layout()))
    assert found == [(2, "", "it has 3 fields where 2 belong"), (3, "b", ""), (4, "c", "")]


def test_an_endless_quote_ends() -> None:
    """A quote that is never closed is one bad row, and does not take the memory of the whole file."""
    rows = [(1, b"Name,Password"), (2, b'"open,x'), *((number, b"x" * 1000) for number in range(3, 300))]
    found = list(read_table(rows, Layout()))
    assert (found[0].line, found[0].standing) == (2, Standing.BAD)
    assert len(found[0].raw) < 200_000


def test_postfix_mailbox_map() -> None:
    text = "# boxes\nJohn@example.com   example.com/john/\n@example.com catch/\nlonely\nann@example.com\n  ann/\n"
    found = brief(read_mailbox_map(text.encode().splitlines(keepends=True)))
    assert [(line, name) for line, name, reason in found if not reason] == [
        (2, "john@example.com"),
        (5, "ann@example.com"),
    ]
    assert [(line, name) for line, name, reason in found if reason] == [(3, "@example.com"), (4, "")]


@pytest.mark.parametrize(
    "data", [b"a:b\nc:d\n", b"a:b\r\nc:d\r\n", b"a:b\rc:d\r", "a:b\nc:d".encode("utf-16"), b"\xef\xbb\xbfa:b\nc:d"]
)
def test_lines_of_every_system(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    assert list(numbered_lines(path)) == [(1, b"a:b"), (2, b"c:d")]


def test_files_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * (2 << 20))
    with pytest.raises(BadFile, match="line 1 is longer"):
        list(numbered_lines(path))
    path.write_bytes(b"\xff\xfea\0b")
    with pytest.raises(BadFile, match="UTF-16"):
        list(numbered_lines(path))
    with pytest.raises(BadFile, match="No such file"):
        list(numbered_lines(tmp_path / "none"))
