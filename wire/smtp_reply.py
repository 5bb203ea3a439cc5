"""SMTP replies (RFC 5321, RFC 3463): from lines to a code and a text, and what the one to RCPT says of a user. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from wire.outcome import Answer, ProtocolTrouble, Scope, Verdict, clean_reason

REPLY_LINE_LIMIT: Final = 4096  # RFC 5321 allows 512 bytes; servers with long sentences exist
REPLY_LINES: Final = 200  # an EHLO reply of some twenty lines is a long one

_LINE: Final = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*))?", re.DOTALL)
_ENHANCED: Final = re.compile(r"([245])\.([0-9]{1,3})\.([0-9]{1,3})(?=\s|$)")


@dataclass(frozen=True, slots=True)
class SmtpReply:
    """A whole reply. `enhanced` is the RFC 3463 code, "" where none stands or it contradicts the code."""

    code: int
    enhanced: str
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        """All lines as one clean line."""
        return clean_reason(" ".join(self.lines))

    def __str__(self) -> str:
        return f"{self.code} {self.text}".rstrip()


class ReplyParser:
    """Takes lines without their line ends and gives the reply with its last one."""

    __slots__ = ("_code", "_texts")

    def __init__(self) -> None:
        self._code = b""
        self._texts: list[str] = []

    def feed(self, line: bytes) -> SmtpReply | None:
        """The reply if `line` completes it. ProtocolTrouble if the line does not belong to a reply."""
        match = _LINE.fullmatch(line)
        if match is None:
            raise ProtocolTrouble(f"not a reply: {clean_reason(line)}")
        code, mark, text = match.groups()
        if self._texts and code != self._code:
            raise ProtocolTrouble("a reply whose lines have different codes")
        self._code = code
        self._texts.append((text or b"").decode("utf-8", "surrogateescape").strip())
        if mark != b"-":
            reply = SmtpReply(int(code), _enhanced_of(code, self._texts), tuple(self._texts))
            self._texts = []
            return reply
        if len(self._texts) > REPLY_LINES:
            raise ProtocolTrouble(f"a reply of more than {REPLY_LINES} lines")
        return None


def _enhanced_of(code: bytes, texts: list[str]) -> str:
    """The code that the lines agree on, if its class is the reply code's first digit."""
    found = {match.group() for text in texts if (match := _ENHANCED.match(text))}
    if len(found) != 1:
        return ""
    enhanced = found.pop()
    return enhanced if enhanced[0] == chr(code[0]) else ""


_NO_SUCH_USER: Final = frozenset({"5.1.1", "5.1.3", "5.1.6", "5.1.10"})
_FULL: Final = frozenset({"5.2.2"})
_BARE_REFUSALS: Final = frozenset({550, 551, 553})
# Sentences behind a bare 550, 551 or 553 that speak of us, the sender or the server's load, and not of the user.
_NOT_THE_USER: Final = re.compile(
    r"""\bspam | block(?:ed|\s?list) | black\s?list | \b(?:is|are|was)\slisted | \b(?:dnsb|r?b)l\b | policy | reputation
      | \bspf\b | \bdmarc\b | \bdkim\b | gr[ea]y\s?list | \brate\b | \bsender\b | authenticat | temporar | \blater\b
      | try\sagain | prohibit | (?<!relay\s)(?<!relaying\s)(?<!access\s)\bdenied\b | (?<!relay\s)access\sdenied
      | too\smany | quota | \bfull\b | storage | \bdisk\b | locked | disabled | suspended
      | \breverse\b | \bptr\b | \bhelo\b | \behlo\b | \btls\b | encrypt | your\s(?:ip|host|address) | \bip\saddress
    """,
    re.IGNORECASE | re.VERBOSE,
)
_TOO_MANY: Final = re.compile(r"too many|recipients", re.IGNORECASE)


def classify_rcpt(reply: SmtpReply, *, known_accepted: bool | None) -> Answer:
    """Whether the server knows the recipient, from its reply to RCPT TO.

    `known_accepted`: whether the same session accepted a known user of that domain; None where nobody asked. Without
    it a bare 550 often means that the server relays nothing for us, and is no NO. A full mailbox exists.
    """
    code, enhanced = reply.code, reply.enhanced
    reason = f"RCPT: {reply}"
    if code in (250, 251):
        return Answer(Verdict.YES, reason)
    if 500 <= code < 600:
        if enhanced in _NO_SUCH_USER:
            return Answer(Verdict.NO, reason)
        if enhanced in _FULL or (code == 552 and not enhanced and not _TOO_MANY.search(reply.text)):
            return Answer(Verdict.YES, reason)
        if code in _BARE_REFUSALS and not enhanced:
            if known_accepted and not _NOT_THE_USER.search(reply.text):
                return Answer(Verdict.NO, reason)
            return Answer(Verdict.LATER, reason)
    about_server = code == 421 or enhanced.startswith(("4.3.", "4.4.", "5.3.", "5.4."))
    return Answer(Verdict.LATER, reason, Scope.SERVER if about_server else Scope.USER)
