"""Whole login dialogues: what the server says at each step, and the verdict that follows."""

from __future__ import annotations

from dataclasses import dataclass

from tests.fault.imap_script import Step
from wire.outcome import Verdict

YES, NO, LATER = Verdict.YES, Verdict.NO, Verdict.LATER
CAPABLE = b"* OK [CAPABILITY IMAP4rev1 LITERAL+ SASL-IR AUTH=PLAIN] ready\r\n"
BARE = b"* OK IMAP4 service is ready\r\n"
DISABLED = b"* OK [CAPABILITY IMAP4rev1 LOGINDISABLED AUTH=PLAIN SASL-IR] ready\r\n"
DISABLED_NO_IR = b"* OK [CAPABILITY IMAP4rev1 LOGINDISABLED AUTH=PLAIN] ready\r\n"
CAPABILITY = Step(b"CAPABILITY", b"* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\nTAG OK done\r\n")


@dataclass(frozen=True, slots=True)
class Login:
    """A dialogue, played to a login of u1 with `password`."""

    steps: tuple[Step, ...]
    verdict: Verdict  # of the whole dialogue; a connection fault counts as LATER
    password: bytes = b"se cret"


def greeted(greeting: bytes, *steps: Step) -> tuple[Step, ...]:
    """A greeting, then steps."""
    return (Step(None, greeting), *steps)


LOGINS: dict[str, Login] = {
    "dovecot, right": Login(
        greeted(CAPABLE, Step(b'LOGIN "u1" "se cret"\r\n', b"TAG OK [CAPABILITY IMAP4rev1 UIDPLUS] Logged in\r\n")), YES
    ),
    "dovecot, right, with flags of its own before": Login(
        greeted(
            CAPABLE, Step(b"LOGIN", b"* CAPABILITY IMAP4rev1 UIDPLUS\r\n* OK [ALERT] hello\r\nTAG OK Logged in\r\n")
        ),
        YES,
    ),
    "dovecot, wrong": Login(
        greeted(CAPABLE, Step(b"LOGIN", b"TAG NO [AUTHENTICATIONFAILED] Authentication failed.\r\n")), NO
    ),
    "exchange, right": Login(greeted(BARE, CAPABILITY, Step(b"LOGIN", b"TAG OK LOGIN completed.\r\n")), YES),
    "exchange, wrong": Login(greeted(BARE, CAPABILITY, Step(b"LOGIN", b"TAG NO LOGIN failed.\r\n")), NO),
    "a NO without text": Login(greeted(CAPABLE, Step(b"LOGIN", b"TAG NO\r\n")), NO),
    "a BAD without text": Login(greeted(CAPABLE, Step(b"LOGIN", b"TAG BAD\r\n")), LATER),
    "an OK without text": Login(greeted(CAPABLE, Step(b"LOGIN", b"TAG OK\r\n")), YES),
    "temporary": Login(greeted(CAPABLE, Step(b"LOGIN", b"TAG NO [UNAVAILABLE] Temporary failure\r\n")), LATER),
    "busy": Login(greeted(CAPABLE, Step(b"LOGIN", b"TAG NO Mailbox is locked\r\n")), LATER),
    "BYE for a greeting": Login(greeted(b"* BYE Too many connections\r\n"), LATER),
    "BYE instead of an answer": Login(greeted(CAPABLE, Step(b"LOGIN", b"* BYE Shutting down\r\n")), LATER),
    "BYE before an OK": Login(greeted(CAPABLE, Step(b"LOGIN", b"* BYE Shutting down\r\nTAG OK done\r\n")), LATER),
    "BYE before a NO": Login(greeted(CAPABLE, Step(b"LOGIN", b"* BYE Shutting down\r\nTAG NO no\r\n")), LATER),
    "hangs up after the password": Login(greeted(CAPABLE, Step(b"LOGIN", b"")), LATER),
    "hangs up at once": Login((), LATER),
    "PREAUTH": Login(greeted(b"* PREAUTH [CAPABILITY IMAP4rev1] ready\r\n"), LATER),
    "NO for a greeting": Login(greeted(b"* NO not today\r\n"), LATER),
    "BAD for a greeting": Login(greeted(b"* BAD not today\r\n"), LATER),
    "POP": Login(greeted(b"+OK POP3 ready\r\n"), LATER),
    "SMTP": Login(greeted(b"220 ESMTP\r\n"), LATER),
    "an OK for another command": Login(greeted(CAPABLE, Step(b"LOGIN", b"zzz1 OK done\r\n")), LATER),
    "a NO for another command": Login(greeted(CAPABLE, Step(b"LOGIN", b"zzz1 NO no\r\n")), LATER),
    "untagged OK, then the end": Login(greeted(CAPABLE, Step(b"LOGIN", b"* OK done\r\n")), LATER),
    "untagged NO, then the end": Login(greeted(CAPABLE, Step(b"LOGIN", b"* NO no\r\n")), LATER),
    "a word that is no status": Login(greeted(CAPABLE, Step(b"LOGIN", b"TAG OKAY done\r\n")), LATER),
    "a code that is not closed": Login(greeted(CAPABLE, Step(b"LOGIN", b"TAG NO [AUTHENTICATIONFAILED no\r\n")), LATER),
    "a continuation that nobody asked for": Login(
        greeted(CAPABLE, Step(b"LOGIN", b"+ more\r\nTAG OK done\r\n")), LATER
    ),
    "NUL in the answer": Login(greeted(CAPABLE, Step(b"LOGIN", b"TAG OK do\0ne\r\n")), LATER),
    "CAPABILITY refused": Login(greeted(BARE, Step(b"CAPABILITY", b"TAG BAD what\r\n")), LATER),
    "CAPABILITY answered by nothing": Login(greeted(BARE, Step(b"CAPABILITY", b"TAG OK done\r\n")), LATER),
    "literal password, LITERAL+": Login(
        greeted(CAPABLE, Step(b'LOGIN "u1" {3+}\r\n'), Step(b"p\xc3\xa4\r\n", b"x\r\n")), LATER, "pä".encode()
    ),
    "literal password, right": Login(
        greeted(
            BARE,
            CAPABILITY,
            Step(b'LOGIN "u1" {2}\r\n', b"+ go on\r\n"),
            Step(b"p\xe4\r\n", b"TAG OK done\r\n"),
        ),
        YES,
        b"p\xe4",
    ),
    "literal password, wrong": Login(
        greeted(
            BARE,
            CAPABILITY,
            Step(b'LOGIN "u1" {2}\r\n', b"* OK wait\r\n+ \r\n"),
            Step(b"p\xe4\r\n", b"TAG NO LOGIN failed.\r\n"),
        ),
        NO,
        b"p\xe4",
    ),
    "OK before the password was sent": Login(
        greeted(BARE, CAPABILITY, Step(b'LOGIN "u1" {2}\r\n', b"TAG OK done\r\n")), LATER, b"p\xe4"
    ),
    "NO before the password was sent": Login(
        greeted(BARE, CAPABILITY, Step(b'LOGIN "u1" {2}\r\n', b"TAG NO LOGIN failed.\r\n")), LATER, b"p\xe4"
    ),
    "LOGIN disabled, right": Login(
        greeted(DISABLED, Step(b"AUTHENTICATE PLAIN AHUxAHNlIGNyZXQ=\r\n", b"TAG OK done\r\n")), YES
    ),
    "LOGIN disabled, wrong": Login(
        greeted(DISABLED, Step(b"AUTHENTICATE PLAIN AHUxAHNlIGNyZXQ=\r\n", b"TAG NO [AUTHENTICATIONFAILED] no\r\n")), NO
    ),
    "LOGIN disabled, no initial response, right": Login(
        greeted(
            DISABLED_NO_IR,
            Step(b"AUTHENTICATE PLAIN\r\n", b"+ \r\n"),
            Step(b"AHUxAHNlIGNyZXQ=\r\n", b"TAG OK done\r\n"),
        ),
        YES,
    ),
    "LOGIN disabled, no initial response, wrong": Login(
        greeted(
            DISABLED_NO_IR,
            Step(b"AUTHENTICATE PLAIN\r\n", b"+\r\n"),
            Step(b"AHUxAHNlIGNyZXQ=\r\n", b"TAG NO no\r\n"),
        ),
        NO,
    ),
    "the mechanism refused": Login(greeted(DISABLED_NO_IR, Step(b"AUTHENTICATE PLAIN\r\n", b"TAG NO no\r\n")), LATER),
    "a challenge too many": Login(
        greeted(DISABLED, Step(b"AUTHENTICATE PLAIN", b"+ \r\n"), Step(b"", b"TAG OK done\r\n")), LATER
    ),
    "LOGIN disabled and nothing else": Login(greeted(b"* OK [CAPABILITY IMAP4rev1 LOGINDISABLED] ready\r\n"), LATER),
}
