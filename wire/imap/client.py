"""An IMAP client for password checks and mailbox copies (RFC 3501).

One command at a time; only `fetch_bodies` pipelines. Every wait ends at the stream's deadline. A Temporary means the
connection is closed; a Permanent leaves it usable. It never retries, never logs, never guesses capabilities.
"""

from __future__ import annotations

import base64

from wire.endpoint import Endpoint, Security, TlsPolicy
from wire.imap.classify import classify_failure, classify_login, classify_unsendable
from wire.imap.dialogue import Completed, Dialogue
from wire.imap.encoder import Arg, Text, Unsendable
from wire.imap.parser import Status
from wire.outcome import Answer, Scope, SetupTrouble, Temporary, Verdict
from wire.secret import Secret
from wire.stream import Stream


class ImapClient:
    """One connection. Not for two tasks at once."""

    def __init__(self, stream: Stream, *, tag_prefix: bytes = b"") -> None:
        self._dialogue = Dialogue(stream, tag_prefix=tag_prefix)
        self.stream = stream
        self.preauth = False
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
        greeting = await self._dialogue.read()
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
        reply = await (self._authenticate(login, password, authzid) if plain else self._login(login, password))
        if reply is None:
            return Answer(Verdict.LATER, "the server answered before the password was sent", Scope.SERVER)
        answer = classify_login(reply.status, reply.code, reply.text)
        if answer.verdict is Verdict.YES:
            await self._logged_in(reply, refresh_capabilities)
        return answer

    async def _login(self, login: bytes, password: Secret) -> Completed | None:
        tag = self._dialogue.next_tag()
        chunks = self._dialogue.encode(tag, b"LOGIN", (Text(login), Text(password.reveal())))
        if await self._dialogue.send(chunks, tag) is not None:
            return None
        return await self._dialogue.read_reply(tag)

    async def _authenticate(self, login: bytes, password: Secret, authzid: bytes) -> Completed | None:
        dialogue = self._dialogue
        tag = dialogue.next_tag()
        response = base64.b64encode(b"\0".join((authzid, login, password.reveal())))  # RFC 4616
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

    async def logout(self, *, wait: bool = False) -> None:
        """Say LOGOUT and close; never raises for what the server makes of it. With `wait`, its BYE is awaited."""
        try:
            tag = self._dialogue.next_tag()
            await self.stream.write(tag + b" LOGOUT\r\n")
            while wait:
                response = await self._dialogue.read()
                wait = not (isinstance(response, Status) and response.tag)
        except Temporary:
            pass  # the server was faster; there is nothing left to lose
        finally:
            self.stream.close()

    def close(self) -> None:
        """Drop the connection without a word."""
        self.stream.abort()
