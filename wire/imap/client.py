"""An IMAP client for password checks and mailbox copies (RFC 3501).

One command at a time; only `fetch_bodies` pipelines. Every wait ends at the stream's deadline. A Temporary means the
connection is closed; a Permanent leaves it usable. It never retries, never logs, never guesses capabilities.
"""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from typing import Final

from wire.endpoint import Endpoint, Security, TlsPolicy
from wire.imap.append import Pipeline, append
from wire.imap.classify import classify_failure, classify_login, classify_mailbox_failure, classify_unsendable
from wire.imap.dialogue import Completed, Dialogue
from wire.imap.encoder import Arg, Text, Unsendable, quote, render_flags, render_uid_sets
from wire.imap.flag_fetch import fetch_flags
from wire.imap.listing import Survey, ask_list, ask_namespaces, ask_survey
from wire.imap.outlines import SUMMARY, fetch_headers, fetch_outlines, fetch_summaries, take_summary
from wire.imap.parser import Status
from wire.imap.results import (
    Appended,
    Listed,
    Namespaces,
    Selected,
    Summary,
    read_search,
    read_selected,
    read_status,
)
from wire.imap.statuses import ask_statuses
from wire.imap.transfer import Body, Fetcher
from wire.imap.windowed import run_windowed
from wire.outcome import Answer, Permanent, ProtocolTrouble, Scope, SetupTrouble, Temporary, Verdict, clean_reason
from wire.secret import Secret
from wire.stream import Stream

_EXISTS: Final = re.compile(r"already exists|mailbox exists", re.IGNORECASE)  # servers before RFC 5530 have no code

_WANTS_ID: Final = re.compile(r"unsafe login", re.IGNORECASE)  # NetEase (163.com, 126.com): no mailbox before ID


def _plain_response(login: bytes, password: Secret, authzid: bytes) -> bytes:
    return base64.b64encode(b"\0".join((authzid, login, password.reveal())))  # RFC 4616 2


class ImapClient:
    """One connection. Not for two tasks at once."""

    def __init__(self, stream: Stream, *, tag_prefix: bytes = b"") -> None:
        self._dialogue = Dialogue(stream, tag_prefix=tag_prefix)
        self.stream = stream
        self.preauth = False
        self._identified = False
        self.greeting = ""

    @property
    def capabilities(self) -> frozenset[str]:
        """What the server announced last, upper case; empty while unknown."""
        return self._dialogue.capabilities or frozenset()

    @property
    def deadline(self) -> float | None:
        """Absolute, in the running loop's time()."""
        return self.stream.deadline

    @deadline.setter
    def deadline(self, value: float | None) -> None:
        self.stream.deadline = value

    @property
    def progress_timeout(self) -> float | None:
        """Where set, every command and every piece of a transfer moves the deadline this many seconds ahead."""
        return self._dialogue.progress_timeout

    @progress_timeout.setter
    def progress_timeout(self, seconds: float | None) -> None:
        self._dialogue.progress_timeout = seconds

    @classmethod
    async def connect(
        cls, endpoint: Endpoint, tls: TlsPolicy, *, deadline: float | None = None, tag_prefix: bytes = b""
    ) -> ImapClient:
        """Connect, read the greeting, start TLS where the endpoint says so.

        Temporary for a server that cannot be reached, says BYE or makes no sense; SetupTrouble for a
        certificate that is not accepted and for TLS that is required and not given.
        """
        stream = await Stream.open(endpoint, tls, deadline=deadline)
        client = cls(stream, tag_prefix=tag_prefix)
        try:
            await client._read_greeting()
            if endpoint.security is Security.STARTTLS:
                await client._start_tls(tls)
        except BaseException:  # cancelled or failed, the socket must not outlive the call
            stream.abort()
            raise
        return client

    async def _read_greeting(self) -> None:
        try:
            greeting = await self._dialogue.read()
        except ProtocolTrouble as trouble:  # another protocol, as a rule: say whose greeting it was
            raise ProtocolTrouble(f"{self.stream.endpoint}: the greeting is not IMAP: {trouble.text}") from None
        if not isinstance(greeting, Status) or greeting.tag:
            raise self._dialogue.broken("the greeting is not IMAP")
        text = greeting.text.decode("utf-8", "backslashreplace")
        if greeting.status not in (b"OK", b"PREAUTH"):
            self._dialogue.stream.abort()
            said = f"{greeting.status.decode()} {text}".rstrip()
            raise Temporary(f"{self.stream.endpoint}: greeting: {said}", code=greeting.code)
        self.preauth = greeting.status == b"PREAUTH"
        self.greeting = text
        self._dialogue.note_capabilities(greeting)

    async def _start_tls(self, tls: TlsPolicy) -> None:
        dialogue, endpoint = self._dialogue, self.stream.endpoint
        if self.preauth:
            raise SetupTrouble(f"{endpoint}: the server greets PREAUTH, so TLS cannot be started")
        if dialogue.capabilities is not None and not dialogue.has("STARTTLS"):
            raise SetupTrouble(f"{endpoint}: the server does not offer STARTTLS")
        reply = await dialogue.run(b"STARTTLS")
        if reply.status != b"OK":
            trouble = classify_failure(reply.status, reply.code, reply.text, what=f"{endpoint}: STARTTLS refused")
            raise trouble if isinstance(trouble, Temporary) else SetupTrouble(trouble.text, code=reply.code)
        await self.stream.start_tls(tls)
        dialogue.capabilities = None  # RFC 3501 6.2.1: what was said in the clear does not count

    async def login(
        self, login: bytes, password: Secret, *, authzid: bytes = b"", refresh_capabilities: bool = True
    ) -> Answer:
        """One attempt: LOGIN, or AUTHENTICATE PLAIN where LOGIN is disabled or an `authzid` is given.

        YES only for a complete tagged OK that came after the whole command was sent. Trouble with the connection is
        raised as Temporary. A password with NUL is NO without asking (see `classify_unsendable`); a login name with
        CR, LF or NUL is Unsendable. `refresh_capabilities=False` saves a round trip where only the verdict matters.
        """
        if self.preauth:
            return Answer(Verdict.LATER, "the server greets PREAUTH and checks no password", Scope.SERVER)
        if any(byte in login + authzid for byte in b"\r\n\0"):
            raise Unsendable("CR, LF or NUL in a login name")
        if b"\0" in password.reveal():
            return classify_unsendable("the password holds NUL, which no IMAP login can carry")
        dialogue = self._dialogue
        if dialogue.capabilities is None:
            await self._ask_capabilities()
        plain = bool(authzid) or dialogue.has("LOGINDISABLED")
        if plain and not dialogue.has("AUTH=PLAIN"):
            return Answer(Verdict.LATER, "the server offers neither LOGIN nor AUTHENTICATE PLAIN here", Scope.SETUP)
        if dialogue.stream.buffered:
            await dialogue.settle()
        reply = await self._attempt(login, password, authzid, plain=plain)
        if reply is None:
            return Answer(Verdict.LATER, "the server answered before the password was sent", Scope.SERVER)
        hide = self._secrets(login, password, authzid)
        answer = classify_login(reply.status, reply.code, reply.text, hide=hide)
        if answer.verdict is Verdict.YES:
            await self._logged_in(reply, refresh_capabilities)
        return answer

    async def adopt(self) -> bool:
        """Whether the server greeted PREAUTH and the connection is somebody's already; whose, only the caller can know.

        No password was checked, so this is no proof of one.
        """
        if self.preauth and self._dialogue.capabilities is None:
            await self._ask_capabilities()
        return self.preauth

    async def _attempt(self, login: bytes, password: Secret, authzid: bytes, *, plain: bool) -> Completed | None:
        """The tagged reply; None for one that came before the command was sent to its end."""
        try:
            return await (self._authenticate(login, password, authzid) if plain else self._login(login, password))
        except ProtocolTrouble:  # its text holds bytes of the server, and with them perhaps the password, cut short
            raise ProtocolTrouble(f"{self.stream.endpoint}: the reply to the login is not IMAP") from None
        except Temporary as trouble:
            if any(clean_reason(secret) in trouble.text for secret in self._secrets(login, password, authzid)):
                raise Temporary(f"{self.stream.endpoint}: no answer to the login", code=trouble.code) from None
            raise

    @staticmethod
    def _secrets(login: bytes, password: Secret, authzid: bytes) -> tuple[bytes, ...]:
        return password.reveal(), _plain_response(login, password, authzid)

    async def _login(self, login: bytes, password: Secret) -> Completed | None:
        tag = self._dialogue.next_tag()
        chunks = self._dialogue.encode(tag, b"LOGIN", (Text(login), Text(password.reveal())))
        if await self._dialogue.send(chunks, tag) is not None:
            return None
        return await self._dialogue.read_reply(tag)

    async def _authenticate(self, login: bytes, password: Secret, authzid: bytes) -> Completed | None:
        dialogue = self._dialogue
        tag = dialogue.next_tag()
        response = _plain_response(login, password, authzid)
        if dialogue.has("SASL-IR"):
            chunks = [tag + b" AUTHENTICATE PLAIN " + response + b"\r\n"]
        else:
            chunks = [tag + b" AUTHENTICATE PLAIN\r\n", response + b"\r\n"]
        if await dialogue.send(chunks, tag) is not None:
            return None
        return await dialogue.read_reply(tag)

    async def _logged_in(self, reply: Completed, refresh: bool) -> None:
        dialogue = self._dialogue
        dialogue.authenticated()
        if reply.code == "CAPABILITY":
            dialogue.note_capabilities(Status(b"", b"OK", reply.code, reply.code_args, b""))
        elif not any(untagged.name == b"CAPABILITY" for untagged in reply.untagged):
            dialogue.capabilities = None  # those of a stranger; a user's are others (RFC 3501 6.2.3)
            if refresh:
                await self._ask_capabilities()

    async def _ask_capabilities(self) -> None:
        reply = await self._dialogue.run(b"CAPABILITY")
        if reply.status != b"OK" or self._dialogue.capabilities is None:
            raise self._dialogue.broken("the server does not say its capabilities")

    async def command(self, name: bytes, *args: Arg, ok: bool = True) -> Completed:
        """One command; with `ok`, NO and BAD are raised as Temporary, SetupTrouble or Permanent by code and text."""
        reply = await self._dialogue.run(name, args)
        if ok and reply.status != b"OK":
            raise classify_failure(reply.status, reply.code, reply.text, what=name.decode("ascii", "replace"))
        return reply

    async def noop(self) -> None:
        """NOOP: keeps the connection, and shows what changed."""
        await self.command(b"NOOP")

    async def enable(self, extension: bytes) -> bool:
        """ENABLE (RFC 5161) one extension; whether the server enabled it."""
        if "ENABLE" not in self.capabilities:
            return False
        reply = await self._dialogue.run(b"ENABLE", (extension,))
        words = [word for response in reply.untagged if response.name == b"ENABLED" for word in response.data]
        return reply.status == b"OK" and extension in words

    async def compress(self) -> bool:
        """COMPRESS DEFLATE (RFC 4978); False, and nothing changed, where the server does not offer it or will not."""
        if "COMPRESS=DEFLATE" not in self.capabilities or self.stream.compressed:
            return self.stream.compressed
        reply = await self._dialogue.run(b"COMPRESS", (b"DEFLATE",))
        if reply.status == b"OK":
            self.stream.start_compression()
        return self.stream.compressed

    async def identify(self, fields: Mapping[str, str]) -> None:
        """ID (RFC 2971), where offered; never fails for what the server thinks of it."""
        self._identified = True
        if "ID" not in self.capabilities:
            return
        pairs = b" ".join(quote(text.encode()) for pair in fields.items() for text in pair)
        await self._dialogue.run(b"ID", (b"(" + pairs + b")" if fields else b"NIL",))

    async def namespaces(self) -> Namespaces | None:
        """NAMESPACE (RFC 2342); None where it is not offered or refused."""
        return await ask_namespaces(self._dialogue)

    async def list_mailboxes(
        self, pattern: bytes = b"*", *, reference: bytes = b"", subscribed: bool = False
    ) -> list[Listed]:
        """All mailboxes that match, or the subscribed ones; each name once, as on the wire."""
        return await ask_list(self._dialogue, pattern, reference, subscribed=subscribed)

    async def survey(self, pattern: bytes = b"*", *, reference: bytes = b"", subscribed: bool = False) -> Survey:
        """What `list_mailboxes` and `namespaces` give, in one round trip, with the subscribed ones if wanted."""
        return await ask_survey(self._dialogue, pattern, reference, subscribed=subscribed)

    async def status(
        self, mailbox: bytes, items: Sequence[str] = ("MESSAGES", "UIDNEXT", "UIDVALIDITY")
    ) -> dict[str, int]:
        """STATUS of a mailbox that is not selected."""
        words = b"(" + " ".join(items).encode("ascii") + b")"
        reply = await self._mailbox_command(b"STATUS", mailbox, words)
        for response in reply.untagged:
            if response.name == b"STATUS":
                with self._dialogue.closing():
                    return read_status(response)
        raise self._dialogue.broken("STATUS without an answer")

    async def status_many(self, mailboxes: Iterable[bytes], items: Sequence[str]) -> dict[bytes, dict[str, int]]:
        """STATUS of each; see `statuses`."""
        return await ask_statuses(self._dialogue, mailboxes, items)

    async def create(self, mailbox: bytes) -> bool:
        """CREATE; False if it exists already. MailboxUnavailable for a name that the server does not take."""
        reply = await self._dialogue.run(b"CREATE", (Text(mailbox),))
        if reply.status == b"NO" and (reply.code == "ALREADYEXISTS" or _EXISTS.search(reply.text)):
            return False
        self._check_mailbox(reply, b"CREATE", mailbox)
        return True

    async def subscribe(self, mailboxes: Iterable[bytes]) -> dict[bytes, Permanent]:
        """SUBSCRIBE to each, without waiting for each; those that were refused, and why. Repeating changes nothing.

        Temporary where the refusal is about the server, not the mailbox.
        """
        refused: dict[bytes, Permanent] = {}

        def take(mailbox: bytes, reply: Completed) -> None:
            try:
                self._check_mailbox(reply, b"SUBSCRIBE", mailbox)
            except Permanent as trouble:
                refused[mailbox] = trouble

        await run_windowed(self._dialogue, b"SUBSCRIBE", mailboxes, take=take)
        return refused

    async def examine(self, mailbox: bytes) -> Selected:
        """Open for reading only: no flag of any message changes."""
        return await self._open(b"EXAMINE", mailbox)

    async def select(self, mailbox: bytes) -> Selected:
        """Open for reading and writing."""
        return await self._open(b"SELECT", mailbox)

    async def open_with_uids(self, mailbox: bytes, *, writing: bool = False) -> tuple[Selected, list[int]]:
        """SELECT, or EXAMINE, and the UIDs of all messages, in one round trip."""
        opened, uids, _ = await self.open_with_summaries(mailbox, 0, writing=writing)
        return opened, uids

    async def open_with_summaries(
        self, mailbox: bytes, highest: int, *, writing: bool = False
    ) -> tuple[Selected, list[int], dict[int, Summary] | None]:
        """The same, and in the same round trip the summaries of the messages with UIDs up to `highest`, by UID.

        None in place of summaries where they were not to be had: `fetch_summaries` then says why.
        """
        name = b"SELECT" if writing else b"EXAMINE"
        commands: list[tuple[bytes, Sequence[Arg]]]
        commands = [(name, (Text(mailbox),)), (b"UID SEARCH", (self._criteria(b"ALL"),))]
        summaries: dict[int, Summary] = {}
        if highest:
            commands.append((b"UID FETCH", (b"1:%d" % highest, SUMMARY)))
        opened, found, *told = await self._dialogue.run_in_a_row(
            *commands, take=lambda response: response.name == b"FETCH" and take_summary(response, summaries)
        )
        if opened.status != b"OK" or found.status != b"OK":  # the long way says what is wrong, and with which
            return await self._open(name, mailbox), await self.uid_search(), None
        with self._dialogue.closing():
            selected, uids = read_selected(opened, examined=not writing), read_search(found.untagged)
        return selected, uids, summaries if [reply.status for reply in told] == [b"OK"] else None

    async def create_and_select(self, mailbox: bytes) -> Selected | None:
        """CREATE and SELECT in one round trip; None where either was refused: then each must be tried by itself."""
        arguments = (Text(mailbox),)
        _, opened = await self._dialogue.run_in_a_row((b"CREATE", arguments), (b"SELECT", arguments))
        if opened.status != b"OK":
            return None
        with self._dialogue.closing():
            return read_selected(opened, examined=False)

    async def fresh_uid_search(self, criteria: bytes = b"ALL") -> list[int]:
        """The UIDs after a NOOP, so that news are among them, in one round trip."""
        _, found = await self._dialogue.run_in_a_row((b"NOOP", ()), (b"UID SEARCH", (self._criteria(criteria),)))
        if found.status != b"OK":
            return await self.uid_search(criteria)
        with self._dialogue.closing():
            return read_search(found.untagged)

    def _criteria(self, criteria: bytes) -> bytes:
        """With ESEARCH (RFC 4731) ranges come back, where SEARCH would send a line of megabytes."""
        return b"RETURN (ALL) " + criteria if "ESEARCH" in self.capabilities else criteria

    async def _open(self, name: bytes, mailbox: bytes) -> Selected:
        reply = await self._mailbox_command(name, mailbox)
        with self._dialogue.closing():
            return read_selected(reply, examined=name == b"EXAMINE")

    async def _mailbox_command(self, name: bytes, mailbox: bytes, *args: Arg) -> Completed:
        reply = await self._dialogue.run(name, (Text(mailbox), *args))
        if reply.status == b"NO" and _WANTS_ID.search(reply.text) and not self._identified:
            await self.identify({"name": "extauth"})
            reply = await self._dialogue.run(name, (Text(mailbox), *args))
        self._check_mailbox(reply, name, mailbox)
        return reply

    @staticmethod
    def _check_mailbox(reply: Completed, name: bytes, mailbox: bytes) -> None:
        if reply.status != b"OK":
            what = f"{name.decode()} {clean_reason(mailbox)}"
            raise classify_mailbox_failure(reply.status, reply.code, reply.text, what=what, mailbox=mailbox)

    async def uid_search(self, criteria: bytes = b"ALL") -> list[int]:
        """UIDs in ascending order. `criteria` is our own text, never outside bytes."""
        reply = await self.command(b"UID SEARCH", self._criteria(criteria))
        with self._dialogue.closing():
            return read_search(reply.untagged)

    async def fetch_summaries(self, uids: bytes = b"1:*") -> list[Summary]:
        """UID, flags, date and size of a UID set, ascending. A message that vanished meanwhile is left out."""
        return await fetch_summaries(self._dialogue, uids)

    async def fetch_flags(self, uids: bytes = b"1:*", *, changed_since: int = 0) -> dict[int, frozenset[bytes]]:
        """Flags by uid; see `flag_fetch`."""
        return await fetch_flags(self._dialogue, uids, changed_since)

    async def fetch_headers(self, uids: Iterable[int], fields: Sequence[str]) -> dict[int, bytes]:
        """The named header fields of each message, raw; see `outlines`."""
        return await fetch_headers(self._dialogue, uids, fields)

    async def fetch_outlines(
        self, uids: Sequence[int], fields: Sequence[str]
    ) -> tuple[dict[int, bytes], list[Summary]]:
        """The same and the summaries of a few messages, in one round trip."""
        return await fetch_outlines(self._dialogue, uids, fields)

    def fetch_bodies(
        self, uids: Iterable[int], *, item: bytes = b"BODY.PEEK[]", window: int = 8
    ) -> AsyncGenerator[Body, None]:
        """Messages as streams, in the order in which the server answers; see `transfer.Fetcher`.

        Where a server cannot give `BODY.PEEK[]`, `item` may be `RFC822.PEEK` or `BINARY.PEEK[]`.
        """
        return self.fetcher(uids, item=item, window=window).bodies()

    def fetcher(
        self,
        uids: Iterable[int],
        *,
        item: bytes = b"BODY.PEEK[]",
        window: int = 8,
        group: int = 1,
        whole: int = 0,
        lenient: bool = False,
    ) -> Fetcher:
        """The same with `group` messages in a command, those of at most `whole` bytes not as streams."""
        return Fetcher(self._dialogue, uids, item=item, window=window, group=group, whole=whole, lenient=lenient)

    def pipeline(self, mailbox: bytes) -> Pipeline | None:
        """APPEND without waiting; None where each message must be announced first."""
        return Pipeline(self._dialogue, mailbox) if Pipeline.possible(self._dialogue, mailbox) else None

    async def append(
        self,
        mailbox: bytes,
        flags: Sequence[bytes],
        internal_date: bytes | None,
        size: int,
        chunks: AsyncIterator[bytes],
    ) -> Appended:
        """Store one message as it comes; see `append.append`."""
        return await append(self._dialogue, mailbox, flags, internal_date, size=size, chunks=chunks)

    async def store_flags(self, uids: Iterable[int], change: bytes, flags: Iterable[bytes]) -> None:
        """UID STORE; `change` is `+FLAGS.SILENT`, `-FLAGS.SILENT` or `FLAGS.SILENT`."""
        words = render_flags(flags)
        for piece in render_uid_sets(uids):
            await self.command(b"UID STORE", piece, change, words)

    async def expunge_uids(self, uids: Iterable[int]) -> bool:
        r"""UID EXPUNGE (UIDPLUS) of messages flagged \Deleted; False, and nothing done, where it is not offered."""
        if "UIDPLUS" not in self.capabilities:
            return False
        for piece in render_uid_sets(uids):
            await self.command(b"UID EXPUNGE", piece)
        return True

    async def logout(self, *, wait: bool = False) -> None:
        """Say LOGOUT and close; never raises for what the server makes of it. With `wait`, its reply is awaited."""
        try:
            await self.stream.write(self._dialogue.next_tag() + b" LOGOUT\r\n")
            if not wait:
                self.stream.close()
                return
            while not (isinstance(response := await self._dialogue.read(), Status) and response.tag):
                pass  # BYE, and whatever else there was to say
        except Temporary:
            pass  # the server was faster; there is nothing left to lose
        self.stream.abort()

    def close(self) -> None:
        """Drop the connection without a word."""
        self.stream.abort()
