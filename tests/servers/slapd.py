"""A directory as a real OpenLDAP keeps it: filled by slapadd, and given back by slapcat. No daemon runs."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

from tests.servers.process import require

SUFFIX: Final = "dc=example,dc=com"
# the attributes of Netscape's and Sun's messaging servers that mail accounts have, under numbers of a private arc
_MESSAGING: Final = """\
attributetype ( 1.3.6.1.4.1.99999.1 NAME 'mailAlternateAddress'
  EQUALITY caseIgnoreIA5Match SYNTAX 1.3.6.1.4.1.1466.115.121.1.26 )
attributetype ( 1.3.6.1.4.1.99999.2 NAME 'mailForwardingAddress'
  EQUALITY caseIgnoreIA5Match SYNTAX 1.3.6.1.4.1.1466.115.121.1.26 )
attributetype ( 1.3.6.1.4.1.99999.3 NAME 'mailQuota'
  EQUALITY caseIgnoreIA5Match SYNTAX 1.3.6.1.4.1.1466.115.121.1.26 SINGLE-VALUE )
attributetype ( 1.3.6.1.4.1.99999.4 NAME 'mailDeliveryOption'
  EQUALITY caseIgnoreIA5Match SYNTAX 1.3.6.1.4.1.1466.115.121.1.26 )
attributetype ( 1.3.6.1.4.1.99999.5 NAME 'proxyAddresses'
  EQUALITY caseExactMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )
attributetype ( 1.3.6.1.4.1.99999.6 NAME 'sAMAccountName'
  EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
objectclass ( 1.3.6.1.4.1.99999.10 NAME 'mailRecipient' SUP top AUXILIARY
  MAY ( mailAlternateAddress $ mailForwardingAddress $ mailQuota $ mailDeliveryOption $ proxyAddresses
        $ sAMAccountName ) )
"""


def slapcat(directory: Path, ldif: str) -> bytes:
    """What slapcat writes of a directory into which `ldif` went. `directory` is empty and stays the test's own."""
    add, cat = require("slapadd", "slapd"), require("slapcat", "slapd")
    schemas = "".join(
        f"include /etc/ldap/schema/{name}.schema\n" for name in ("core", "cosine", "inetorgperson", "nis")
    )
    (directory / "messaging.schema").write_text(_MESSAGING)
    (directory / "data").mkdir()
    configuration = directory / "slapd.conf"
    configuration.write_text(
        f"{schemas}include {directory}/messaging.schema\nmodulepath /usr/lib/ldap\nmoduleload back_mdb\n"
        f'database mdb\nsuffix "{SUFFIX}"\ndirectory {directory}/data\nmaxsize 16777216\n'
    )
    (directory / "input.ldif").write_text(ldif, "utf-8")
    command = [add, "-q", "-f", str(configuration), "-l", str(directory / "input.ldif")]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    written = subprocess.run([cat, "-f", str(configuration)], check=True, capture_output=True, timeout=60)
    return written.stdout
