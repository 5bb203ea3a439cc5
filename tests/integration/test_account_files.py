"""Account files as the programs themselves write and read them: OpenLDAP, crypt(5) lines, Dovecot, Postfix."""

from __future__ import annotations

import base64
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli_client.commands import Encrypted
from extauth.sandbox.stored_password import matches
from migrator.directory.account import NewAccount, Passwords, Rejected, Rules
from migrator.directory.entry import Standing
from migrator.directory.sifting import Sifting
from migrator.directory.source import Source
from tests.servers.dovecot import Dovecot
from tests.servers.process import require, server_directory
from tests.servers.slapd import SUFFIX, slapcat

PASSWORD = b"j27ss#45 \xc3\xa4"
SCHEMES = ("", "{CRYPT}", "{MD5}", "{SMD5}", "{SHA}", "{SSHA}", "{CLEARTEXT}")
TAKEN = {"", "{CRYPT}", "{MD5}", "{SHA}", "{CLEARTEXT}"}  # the guide knows {SSHA} with 8 bytes of salt, not with 4


def run(*command: str, given: bytes | None = None) -> bytes:
    return subprocess.run(command, check=True, capture_output=True, input=given, timeout=60).stdout


def sifted(source: Source, rules: Rules) -> dict[str, NewAccount | Rejected]:
    sifting = Sifting(source, rules)
    sifting.survey()
    found: dict[str, NewAccount | Rejected] = {}
    for item in sifting.sift():
        if isinstance(item, NewAccount):
            found[item.address] = item
        elif isinstance(item, Rejected):
            found[item.name] = item
        else:
            assert item.standing is Standing.LEFT_OUT
    return found


def opens(account: NewAccount | Rejected, password: bytes) -> bool:
    """Whether CommuniGate would let somebody in with `password`."""
    assert isinstance(account, NewAccount), account
    if isinstance(account.password, Encrypted):
        return matches(account.password.render(), password)
    assert account.password is not None
    return matches(account.password.reveal().decode("utf-8", "surrogateescape"), password)


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


def stored(scheme: str, file: Path) -> str:
    """A userPassword as slappasswd makes it; clear text in every second case stands without a scheme."""
    if not scheme:
        return PASSWORD.decode()
    if scheme == "{CRYPT}":
        return "{CRYPT}" + run(require("mkpasswd", "whois"), "-m", "md5crypt", "-s", given=PASSWORD).decode().strip()
    return run(require("slappasswd", "slapd"), "-h", scheme, "-T", str(file)).decode().strip()


def test_slapcat(place: Path) -> None:
    """Base64, folded lines, operational attributes, several values: as OpenLDAP writes them."""
    secret = place / "secret"
    secret.write_bytes(PASSWORD)
    entries = [f"dn: {SUFFIX}\nobjectClass: organization\nobjectClass: dcObject\no: Example\ndc: example\n"]
    for number, scheme in enumerate(SCHEMES):
        value = base64.b64encode(stored(scheme, secret).encode()).decode()
        name = f"Jörg von und zu {'Langenname' * 9} {number}"
        entries.append(
            f"dn: uid=user{number},{SUFFIX}\nobjectClass: inetOrgPerson\nobjectClass: mailRecipient\n"
            f"uid: user{number}\ncn: {name}\nsn: x\n"
            f"mail: user{number}@example.com\nmailAlternateAddress: first.last{number}@example.com\n"
            f"mailForwardingAddress: user{number}@far.example\nmailQuota: {(number + 1) << 20}\n"
            f"userPassword:: {value}\njpegPhoto:: " + base64.b64encode(bytes(range(256)) * 40).decode() + "\n"
        )
    entries.append(f"dn: cn=staff,{SUFFIX}\nobjectClass: groupOfNames\ncn: staff\nmember: uid=user0,{SUFFIX}\n")
    ldap = place / "ldap"
    ldap.mkdir()
    written = slapcat(ldap, "\n".join(entries))
    assert b"userPassword:: " in written
    path = place / "out.ldif"
    path.write_bytes(written)
    found = sifted(Source(path, "ldif"), Rules())
    assert len(found) == len(SCHEMES)
    for number, scheme in enumerate(SCHEMES):
        account = found[f"user{number}@example.com"]
        if scheme not in TAKEN:
            assert isinstance(account, Rejected)
            assert ("salted-md5" if scheme == "{SMD5}" else "salted-sha1") in account.reasons[0]
            continue
        assert isinstance(account, NewAccount)
        assert (account.aliases, account.quota) == ((f"first.last{number}",), (number + 1) << 20)
        assert account.real_name.startswith("Jörg von und zu")
        assert account.forwards[-1].targets == (f"user{number}@far.example", f"user{number}@example.com")
        assert opens(account, PASSWORD), scheme
        assert not opens(account, PASSWORD + b"x")


def test_shadow_lines_of_every_method(place: Path) -> None:
    """passwd joined with shadow lines as mkpasswd makes them: which CommuniGate takes, and which wait."""
    methods = ("descrypt", "md5crypt", "bcrypt-a", "bcrypt", "sha256crypt", "sha512crypt", "yescrypt")
    program = require("mkpasswd", "whois")
    hashes = {one: run(program, "-m", one, "-s", given=b"secret 1").decode().strip() for one in methods}
    passwd, shadow = place / "passwd", place / "shadow"
    passwd.write_text("".join(f"{one}:x:{1000 + at}:100:{one},,,:/:\n" for at, one in enumerate(methods)))
    shadow.write_text("".join(f"{one}:{hashes[one]}:19000:0:99999:7:::\n" for one in methods))
    source = Source(passwd, "passwd", shadow)
    found = sifted(source, Rules("example.com"))
    made = {one for one in methods if isinstance(found[f"{one}@example.com"], NewAccount)}
    assert {"descrypt", "md5crypt", "bcrypt-a"} <= made
    assert not made & {"sha256crypt", "sha512crypt", "yescrypt"}
    for one in ("descrypt", "md5crypt"):
        assert opens(found[f"{one}@example.com"], b"secret 1")
    waiting = sifted(source, Rules("example.com", passwords=Passwords.FIRST_LOGIN))["yescrypt@example.com"]
    assert isinstance(waiting, NewAccount)
    assert (waiting.waits, waiting.password) == (True, None)
    assert waiting.stored is not None
    assert waiting.stored.reveal().decode() == hashes["yescrypt"]


def test_a_passwd_file_that_dovecot_accepts() -> None:
    """The same file is read here and by Dovecot, and the same passwords open it."""
    doveadm = require("doveadm", "dovecot-core")
    passwords = {"ann@example.com": b"secret 1", "bob@example.com": b'say "hi"'}
    with Dovecot(passwords) as dovecot:
        path = dovecot.directory / "users"
        lines = []
        for line, scheme in zip(path.read_text().splitlines(), ("SHA", "MD5-CRYPT"), strict=True):
            name, _, *rest = line.split(":")
            made = run(doveadm, "pw", "-s", scheme, "-p", passwords[name].decode()).decode().strip()
            lines.append(":".join([name, made, *rest]) + "userdb_quota_rule=*:storage=1G")
        path.write_text("".join(f"{line}\n" for line in lines))
        found = sifted(Source(path, "dovecot"), Rules())
        for name, password in passwords.items():
            configuration = str(dovecot.directory / "dovecot.conf")
            run(doveadm, "-c", configuration, "auth", "test", name, password.decode())
            account = found[name]
            assert opens(account, password)
            assert isinstance(account, NewAccount)
            assert account.quota == 1 << 30


def test_virtual_maps_as_postfix_looks_them_up(place: Path) -> None:
    """What is an account here is one for postmap -q, and each alias leads where Postfix sends it."""
    program = require("postmap", "postfix")
    directory = server_directory()
    (directory / "main.cf").write_text("compatibility_level = 3.6\n")
    boxes, aliases = place / "vmailbox", place / "virtual"
    boxes.write_text("# boxes\nAnn@Example.com\texample.com/ann/\nbob@example.com\n   example.com/bob/\n\n@x.test x/\n")
    aliases.write_text("a.lee@example.com Ann@example.com\nTEAM@example.com ann@example.com,\n  bob@example.com\n")
    sifting = Sifting(Source(boxes, "postfix-mailbox", virtual_aliases=aliases), Rules(passwords=Passwords.NONE))
    sifting.survey()
    items = list(sifting.sift())
    accounts = [item for item in items if isinstance(item, NewAccount)]

    def query(path: Path, key: str) -> str:
        return run(program, "-c", str(directory), "-q", key, f"texthash:{path}").decode().strip()

    assert [account.address for account in accounts] == ["ann@example.com", "bob@example.com"]
    for account in accounts:
        assert query(boxes, account.address)
        for alias in account.aliases:
            assert query(aliases, f"{alias}@{account.domain}").lower() == account.address
    assert accounts[0].aliases == ("a.lee",)
    (team,) = sifting.loose
    assert query(aliases, team.address).replace(" ", "").split(",") == list(team.targets)
