"""Where real procmail puts messages, and where the rules that its recipes become put them."""

from __future__ import annotations

import email
import email.policy
import itertools
import re
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from email.utils import getaddresses
from pathlib import Path

import pytest

from migrator.mail_rule import MailRule, Words
from migrator.procmail_rules import convert_procmailrc
from tests.servers.process import require

RECIPES = {
    "folders": """\
MAILDIR=$HOME/mail    # where folders are
LOGFILE=$HOME/log
:0:
* ^Subject:.*\\[list\\]
lists/first
:0:
* ^X-Spam-Flag: YES
junk
:0
* ^Subject: urgent$
$DEFAULT
:0:
* ^Subject: *urgent
late
""",
    "addresses": """\
:0:
* ^From:.*boss@example\\.com
boss
:0 c:
* ^TO_joe@example.com
copies
:0
* ^Reply-To:.*(x@far|y@far)
! one@far.test two@far.test
:0 c
* ^Sender:.*@lists\\.example
! archive@far.test
""",
    "size and not": """\
:0:
* > 2000
big
:0:
* ! ^Subject:.*keep
* < 400
small
:0
* ! ^X-Loop:
/dev/null
""",
    "all": "MAILDIR=$HOME/mail\n:0 c:\narchive\n:0\n* ^List-Id:.*<(one|two)\\.example>\n/dev/null\n:0:\nrest\n",
    "block of conditions": """\
:0:
* ^Subject:.*report.*2026
* ^From:.*@example\\.com
* ! ^X-Old: .*yes
# a comment between
* < 100000
reports
:0
$DEFAULT
:0:
never
""",
}

FROM = ["Boss <boss@example.com>", "someone@far.test"]
SUBJECTS = ["[list] hello", "list hello", "urgent", "urgent: now", "Keep this", "the report of 2026"]
FIELDS = [
    "",
    "X-Spam-Flag: YES\nX-Loop: me\n",
    "X-Spam-Flag: no, YES\n",
    "Reply-To: Y <y@far.test>\nSender: owner@lists.example.org\nX-Loop: x\n",
    "List-Id: The one <one.example>\nCc: joe@example.com\n",
    "X-Old: oh yes\nTo: Joe <joe@example.com>, x@far.test\n",
]
BODIES = ["x\n", "a line of text\n" * 200]


def messages() -> list[bytes]:
    """Every combination, every third one long."""
    combined = itertools.product(FROM, SUBJECTS, FIELDS)
    return [
        f"From: {sender}\nSubject: {subject}\n{fields}\n{BODIES[at % 3 == 0]}".encode()
        for at, (sender, subject, fields) in enumerate(combined)
    ]


# -- the rules, as CommuniGate's guide describes them ------------------------------------------------------------------


def picture_fits(picture: str, text: str) -> bool:
    pattern = ".*".join(re.escape(part) for part in picture.split("*"))
    return re.fullmatch(pattern, text, re.IGNORECASE | re.DOTALL) is not None


def condition_holds(words: Words, content: bytes) -> bool:
    datum, operation, parameter = words
    message = email.message_from_bytes(content, policy=email.policy.compat32)
    if datum == "Message Size":
        size = len(content)
        return size < int(parameter) if operation == "less than" else size > int(parameter)
    pictures = parameter.split(",") if operation in ("in", "not in") else [parameter]
    if datum == "Header Field":
        texts = [f"{name}: {value}" for name, value in message.items()]
    elif datum == "Any To or Cc":
        texts = [address for _, address in getaddresses([*message.get_all("To", []), *message.get_all("Cc", [])])]
    elif datum in ("From", "Sender", "Reply-To"):
        texts = [address for _, address in getaddresses(message.get_all(datum, []))]
    else:
        texts = [str(value) for value in message.get_all(datum, [])]
    fits = any(picture_fits(picture, text) for picture in pictures for text in texts)
    return fits if operation in ("is", "in") else not fits


def apply_rules(rules: Sequence[MailRule], content: bytes) -> tuple[set[str], set[str]]:
    """The mailboxes that a message ends in, and the addresses it is sent to."""
    mailboxes: set[str] = set()
    sent: set[str] = set()
    for rule in sorted(rules, key=lambda rule: -rule.priority):
        if not all(condition_holds(words, content) for words in rule.conditions):
            continue
        for action, parameter in rule.actions:
            if action == "Discard":
                return mailboxes, sent
            if action == "Stop Processing":
                return mailboxes | {"INBOX"}, sent
            if action == "Store in":
                mailboxes.add(parameter)
            else:
                assert action == "Mirror to"
                sent |= set(parameter.split(","))
    return mailboxes | {"INBOX"}, sent


# -- procmail itself ---------------------------------------------------------------------------------------------------


def run_procmail(home: Path, recipes: str, content: bytes) -> tuple[set[str], set[str]]:
    """The same of a real delivery, in a home of its own."""
    mail = home / "mail" if recipes.startswith("MAILDIR=$HOME/mail") else home
    (mail / "lists").mkdir(parents=True)
    (home / "rc").write_text(recipes)
    (home / "sendmail").write_text(f'#!/bin/sh\necho "$@" >>{home}/sent\nexec cat >/dev/null\n')
    (home / "sendmail").chmod(0o755)
    settings = [f"HOME={home}", f"DEFAULT={home}/INBOX", f"SENDMAIL={home}/sendmail"]
    command = [require("procmail", "procmail"), *settings, str(home / "rc")]
    done = subprocess.run(command, input=content, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    known = {"rc", "sendmail", "log", "sent"}
    files = [path for path in home.rglob("*") if path.is_file() and path.name not in known]
    found = {str(path.relative_to(home if path.name == "INBOX" else mail)) for path in files}
    sent = (home / "sent").read_text().split() if (home / "sent").exists() else []
    return found, {word for word in sent if "@" in word}


@pytest.mark.parametrize("name", RECIPES)
def test_procmail_and_the_rules_agree(tmp_path: Path, name: str) -> None:
    """Every message of the collection, folder by folder and address by address."""
    conversion = convert_procmailrc(RECIPES[name].encode())
    assert not conversion.problems
    collection = messages()
    with ThreadPoolExecutor(len(collection)) as pool:  # procmail sleeps a second in each delivery
        homes = [tmp_path / str(number) for number in range(len(collection))]
        real = list(pool.map(run_procmail, homes, itertools.repeat(RECIPES[name]), collection))
    for content, ends in zip(collection, real, strict=True):
        assert apply_rules(conversion.rules, content) == ends, content
    assert len({(frozenset(mailboxes), frozenset(sent)) for mailboxes, sent in real}) > 1  # it tells recipes apart
