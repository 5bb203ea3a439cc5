"""The mail that copies are measured with, and the comparison that says whether it arrived."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.bench.copy import reached, verdict
from tests.bench.mailbox import MAILBOXES, Letter, expected, generated


@pytest.fixture(scope="module")
def letters() -> list[Letter]:
    return list(generated(5500))


def test_the_generated_mail_is_the_same_in_every_run(letters: list[Letter]) -> None:
    assert list(generated(400)) == list(generated(400))
    assert list(generated(400, seed=8)) != list(generated(400))
    assert letters == list(generated(5500))


def test_it_is_like_a_real_account(letters: list[Letter]) -> None:
    assert 40e6 < sum(len(letter.content) for letter in letters) < 45e6
    assert {letter.mailbox for letter in letters} == set(MAILBOXES)
    identities = [re.findall(rb"(?m)^Message-ID: (\S+)", letter.content)[:1] for letter in letters]
    assert 180 < sum(not found for found in identities) < 400  # those without any header among them
    times = Counter(found[0] for found in identities if found)
    assert 150 < sum(count - 1 for count in times.values()) < 230
    assert {flag for letter in letters for flag in letter.flags} == set("FRSabcd")


def test_it_holds_the_oddities_that_servers_stumble_over_and_no_nul(letters: list[Letter]) -> None:
    everything = [letter.content for letter in letters]
    odd = {
        "bare LF": rb"[^\r]\n",
        "lone CR": rb"\r[^\r\n]",
        "CR CR LF": rb"\r\r\n",
        "8-bit header": rb"(?m)^Subject: Gr\xfc",
        "long line": rb"x{5000}",
        "no header": rb"\Aonly a body",
    }
    counts = {name: sum(bool(re.search(pattern, content)) for content in everything) for name, pattern in odd.items()}
    assert all(counts.values()), counts
    assert 0.02 < sum(counts.values()) / len(everything) < 0.035, counts
    assert not any(b"\0" in content for content in everything)


def _changed(letters: list[Letter], **changes: object) -> Counter[tuple[str, str, str, object]]:
    return expected([replace(letters[0], **changes), *letters[1:]])  # type: ignore[arg-type, return-value]  # by name


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (
            "lost",
            "299 of 300 arrived, 1 missing or changed, 0 doubled or not as they were, 0 with other flags or dates",
        ),
        ("doubled", "301 of 300 arrived, 0 missing or changed, 1 doubled or not as they were, 0 with other flags or"),
        ("content", "300 of 300 arrived, 1 missing or changed, 1 doubled or not as they were, 0 with other flags or"),
        ("line end", "300 of 300 arrived, 1 missing or changed, 1 doubled or not as they were, 0 with other flags or"),
        ("mailbox", "300 of 300 arrived, 1 missing or changed, 1 doubled or not as they were, 0 with other flags or"),
        ("flags", "300 of 300 arrived, 0 missing or changed, 0 doubled or not as they were, 1 with other flags or"),
        ("date", "300 of 300 arrived, 0 missing or changed, 0 doubled or not as they were, 1 with other flags or"),
    ],
)
def test_the_comparison_notices_what_a_copy_can_do_wrong(letters: list[Letter], what: str, words: str) -> None:
    sample = letters[:300]
    first = sample[0]
    elsewhere = next(name for name in MAILBOXES if name != first.mailbox)
    there = {
        "lost": expected(sample[1:]),
        "doubled": expected([*sample, first]),
        "content": _changed(sample, content=first.content.replace(b"Received: ", b"Received:  ", 1)),
        "line end": _changed(sample, content=first.content.removesuffix(b"\r\n")),
        "mailbox": _changed(sample, mailbox=elsewhere),
        "flags": _changed(sample, flags=first.flags + "D"),
        "date": _changed(sample, when=first.when + timedelta(seconds=1)),
    }[what]
    assert there != expected(sample)
    assert verdict(expected(sample), there).startswith(words)  # type: ignore[arg-type]  # dates, as they are


def test_what_dovecot_itself_changes_is_no_difference(letters: list[Letter]) -> None:
    one = letters[0]
    sent = replace(one, content=one.content + b"a\nb\r\r\nc\r")
    kept = replace(one, content=one.content + b"a\r\nb\r\nc")
    assert expected([sent]) == expected([kept])


def test_an_expectation_is_said_beside_its_measurement() -> None:
    assert reached("ratio", 0.5, 0.5) == "REACHED: ratio 0.50, at most 0.5"
    assert reached("ratio", 0.51, 0.5) == "MISSED: ratio 0.51, at most 0.5"
