"""The guide's flags, one by one, and what cannot be honoured."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path

import pytest

from migrator.options import (
    GUIDE_TIMEOUT,
    PATIENT_TIMEOUT,
    WORKER_TIMEOUT,
    CopyOptions,
    DateFilter,
    OptionTrouble,
    parse_copy_options,
    parse_options,
)
from migrator.window import Window


def changed(*flags: str) -> dict[str, object]:
    options, rest = parse_options(flags)
    assert rest == []
    default = CopyOptions()
    return {
        field.name: getattr(options, field.name)
        for field in fields(options)
        if getattr(options, field.name) != getattr(default, field.name)
    }


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ((), {}),
        (("--verbose",), {"verbose": True}),
        (("--list", "Mail/*"), {"list_pattern": "Mail/*"}),
        (("--source", "~user/"), {"source_prefix": "~user/"}),
        (("--target", "~user/"), {"target_prefix": "~user/"}),
        (("--skipMailbox", "a", "--skipMailbox", "b c"), {"skip": frozenset({"a", "b c"})}),
        (("--notimeout",), {"timeout": PATIENT_TIMEOUT}),
        (("--delete",), {"delete": True}),
        (("--nosubscription",), {"subscriptions": False}),
        (("--subscribed",), {"subscribed_only": True}),
        (("--fetchRFC822",), {"fetch_item": b"RFC822.PEEK"}),
        (("--byOne",), {"one_by_one": True}),
        (("--noACL",), {"acl": False}),
        (("--copyMailboxClass",), {"mailbox_class": True}),
        (("--oldCLI", "a:1106", "--newCLI", "cli+tls://b"), {"old_cli": "a:1106", "new_cli": "cli+tls://b"}),
        (("--proxyAuth", "user"), {"proxy_user": "user"}),
        (("--renameMailbox", "a", "b", "--renameMailbox", "c", "b"), {"renames": {"a": "b", "c": "b"}}),
        (("--json",), {"json": True}),
        (("--special-use",), {"special_use": True}),
        (("--max-size", "8MiB"), {"max_size": 8 << 20}),
        (("--compress",), {"compress": True}),
        (("--limit-rate", "500KB/s"), {"rate": 500_000}),
        (("--window", "22:00-06:00"), {"window": Window(22 * 60, 6 * 60)}),
        (("--quarantine", "/var/lib/extauth/refused"), {"quarantine": "/var/lib/extauth/refused"}),
        (("--caFile", "/ca.pem"), {"ca_file": "/ca.pem"}),
        (("--noCertificateCheck",), {"check_certificates": False}),
    ],
)
def test_each_flag_changes_what_it_says(flags: tuple[str, ...], expected: dict[str, object]) -> None:
    assert changed(*flags) == expected


@pytest.mark.parametrize(
    ("side", "text", "when"),
    [
        ("before", "01-Feb-2009", datetime(2009, 2, 1, tzinfo=UTC)),
        ("after", "1-feb-2009 13:14:15", datetime(2009, 2, 1, 13, 14, 15, tzinfo=UTC)),
    ],
)
def test_a_filter_by_date(side: str, text: str, when: datetime) -> None:
    assert changed("--filter", side, text) == {"date_filter": DateFilter(side == "after", when)}


def test_everything_behind_the_flags_is_taken_as_it_is() -> None:
    options, rest = parse_options(["--delete", "old", "john", "--secret", "-x", "new", "--delete"])
    assert options.delete
    assert rest == ["old", "john", "--secret", "-x", "new", "--delete"]
    assert parse_options(["--", "--delete"]) == (CopyOptions(), ["--delete"])
    assert parse_options(["-v"]) == (CopyOptions(), ["-v"])


def test_the_time_out_of_a_program_is_the_guides_and_a_workers_is_longer() -> None:
    assert parse_options([], timeout=GUIDE_TIMEOUT)[0].timeout == 20
    assert parse_options(["--notimeout"], timeout=GUIDE_TIMEOUT)[0].timeout == 3600
    assert parse_copy_options([]).timeout == WORKER_TIMEOUT


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--nosuch"], "unknown option --nosuch"),
        (["--del"], "unknown option --del"),
        (["--skipMailbox"], "needs 1 value"),
        (["--renameMailbox", "a"], "needs 2 values"),
        (["--renameMailbox", "a", ""], "empty"),
        (["--renameMailbox", "a", "b", "--renameMailbox", "a", "c"], "twice"),
        (["--proxyAuth", ""], "not empty"),
        (["--list", ""], "not empty"),
        (["--oldCLI", "imap://old"], "cli address is needed"),
        (["--fixLongLines", "many"], "number of bytes"),
        (["--filter", "since", "01-Feb-2009"], "before or after"),
        (["--filter", "before", "2009-02-01"], "not a date"),
        (["--filter", "before", "31-Feb-2009"], "not a date"),
        (["--filter", "before", "01-Feb-2009 25:00:00"], "not a date"),
        (["--filter", "before", "01-Feb-2009", "--filter", "after", "01-Feb-2008"], "once"),
        (["--list", "a\r\nb"], "control character"),
        (["--max-size", "much"], "--max-size much: a size is"),
        (["--max-size", "0"], "a size is"),
        (["--limit-rate", "2MiB"], "a rate is"),
        (["--window", "night"], "a window is"),
        (["--connections", "0"], "from 1 to 32"),
        (["--connections", "99"], "from 1 to 32"),
        (["--connections", "4"], "max_connections"),
        (["--dry-run"], "Move programs: a worker copies"),
        (["--sourceUser", "john"], "admin_login"),
        (["--proxyAuth", "john"], "every account would get the mail of one"),
        (["--targetUser", "john"], "copy_as"),
        (["--quarantine", ""], "directory"),
        (["stray"], "not an option"),
        (["--oldPasswordFile", "f"], "Move programs"),
        (["--renameMailboxList", "/nonexistent/file"], "cannot read"),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_sentence(flags: list[str], said: str) -> None:
    with pytest.raises(OptionTrouble, match=said):
        parse_copy_options(flags)


@pytest.mark.parametrize("flag", ["--list", "--skipMailbox", "--byOne", "--filter", "--copyMailboxClass"])
def test_flags_for_imap_are_not_for_pop(flag: str) -> None:
    with pytest.raises(OptionTrouble, match="unknown option"):
        parse_copy_options([flag, "x", "y"], pop=True)
    assert parse_copy_options(["--verbose", "--delete", "--notimeout"], pop=True).delete


def test_flags_for_pop() -> None:
    flags = ["--max-size", "8MiB", "--window", "22:00-06:00", "--quarantine", "/q", "--archiveSeen", "Old mail"]
    options = parse_copy_options([*flags, "--seenOlder", "30d"], pop=True)
    assert (options.max_size, options.window, options.quarantine) == (8 << 20, Window(22 * 60, 6 * 60), "/q")
    assert (options.archive_seen, options.seen_older) == ("Old mail", 30 * 86400)


def test_a_list_of_renames(tmp_path: Path) -> None:
    file = tmp_path / "renames.txt"
    file.write_bytes("﻿Gelöscht\tTrash\r\n\r\nSent Items\tSent\n".encode())
    assert changed("--renameMailboxList", str(file)) == {"renames": {"Gelöscht": "Trash", "Sent Items": "Sent"}}
    both = changed("--renameMailbox", "a", "b", "--renameMailboxList", str(file))
    assert both == {"renames": {"a": "b", "Gelöscht": "Trash", "Sent Items": "Sent"}}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no tab here\n", "line 1: needs"),
        (b"ok\tok\n\tnew\n", "line 2: needs"),
        (b"a\tb\tc\n", "line 1: needs"),
        (b"a\tb\na\tc\n", "renamed twice"),
        (b"a\xff\tb\n", "cannot read"),
    ],
)
def test_a_list_of_renames_that_cannot_be_used(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "renames.txt"
    file.write_bytes(content)
    with pytest.raises(OptionTrouble, match=said):
        parse_copy_options(["--renameMailboxList", str(file)])
