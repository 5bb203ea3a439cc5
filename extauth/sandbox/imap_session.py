"""One IMAP session of the sandbox's server: state and commands, without a socket (RFC 9051 and RFC 3501).

`execute` takes an assembled command and gives the bytes to send. IDLE, STARTTLS and AUTHENTICATE's challenge are the
server's, because they need the connection.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime

from extauth.sandbox.imap_grammar import Assembly, BadCommand, Cursor, astring, quoted, uid_set
from extauth.sandbox.imap_listing import Listing, MailUser, status_line
from extauth.sandbox.imap_offer import Offer
from extauth.sandbox.imap_search import UnknownCharset
from extauth.sandbox.imap_view import View
from extauth.sandbox.mailstore import Mailbox, MailboxError, MailStore

ALL_RIGHTS = "lrswipkxtea"


class LoginRefused(Exception):
    """A login that does not go through; `code` is the IMAP response code."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


LogIn = Callable[[bytes, bytes, bytes, str], Awaitable[MailUser]]  # login, password, authzid, client address


@dataclass(slots=True, eq=False)  # sessions are keys: each is its own
class ImapSession:
    """State of one connection."""

    offer: Offer
    log_in: LogIn
    wake: Callable[[], None]
    address: str = "127.0.0.1"
    secure: bool = False
    user: MailUser | None = None
    view: View | None = None
    over: bool = False
    client_id: bytes = b""
    enabled: set[str] = field(default_factory=set)

    async def execute(self, assembly: Assembly) -> list[bytes]:
        """One complete command; what to send. Never raises for what a client says."""
        tag = assembly.tag
        cursor = Cursor(bytes(assembly.text), assembly.literals)
        try:
            if tag == b"*":
                raise BadCommand("invalid tag")
            cursor.need(tag)
            cursor.space()
            return await self._run(tag, cursor.word(), cursor)
        except BadCommand as error:
            return [tag + b" BAD " + str(error).encode("ascii", "replace") + b"\r\n"]
        except UnknownCharset:
            return [tag + b" NO [BADCHARSET (US-ASCII UTF-8)] unknown charset\r\n"]
        except (MailboxError, LoginRefused) as error:
            code = f"[{error.code}] " if error.code else ""
            return [*self._updates(), tag + f" NO {code}{error.text}\r\n".encode()]

    async def _run(self, tag: bytes, word: bytes, cursor: Cursor) -> list[bytes]:
        by_uid = word == b"UID"
        if by_uid:
            cursor.space()
            word = cursor.word()
            if word not in _UID_COMMANDS:
                raise BadCommand("unknown UID command")
        if word == b"LOGIN":
            return await self._login(tag, cursor)
        needed = _STATES.get(word)
        if needed is None:
            raise BadCommand("unknown command")
        if needed > 0 and self.user is None:
            raise BadCommand("please log in first")
        if needed > 1 and self.view is None:
            raise BadCommand("no mailbox is selected")
        if not cursor.at_end():
            cursor.space()
        if needed > 1:
            return self._on_messages(tag, word, cursor, by_uid=by_uid)
        lines, code = _COMMANDS[word](self, cursor)
        done = (f"OK [{code}] " if code else "OK ") + word.decode().title() + " completed"
        return [*lines, *self._updates(), tag + b" " + done.encode() + b"\r\n"]

    def _updates(self, *, expunge: bool = True) -> list[bytes]:
        return self.view.updates(expunge=expunge) if self.view is not None else []

    # -- logging in ----------------------------------------------------------------------------------------------------

    async def _login(self, tag: bytes, cursor: Cursor) -> list[bytes]:
        if self.user is not None:
            raise BadCommand("already logged in")
        cursor.space()
        login = cursor.astring()
        cursor.space()
        password = cursor.astring()
        cursor.end()
        if self.offer.login_disabled and not self.secure:
            raise LoginRefused("PRIVACYREQUIRED", "TLS is required")
        return await self.authenticate(tag, login, password, b"")

    async def authenticate(self, tag: bytes, login: bytes, password: bytes, authzid: bytes) -> list[bytes]:
        """The end of LOGIN and AUTHENTICATE."""
        try:
            self.user = await self.log_in(login, password, authzid, self.address)
        except LoginRefused as refused:
            code = f"[{refused.code}] " if refused.code else ""
            return [tag + f" NO {code}{refused.text}\r\n".encode()]
        shown = b""
        if self.offer.login_capabilities:
            shown = b"[CAPABILITY " + self.offer.capabilities(secure=self.secure) + b"] "
        return [tag + b" OK " + shown + b"logged in\r\n"]

    # -- in any state --------------------------------------------------------------------------------------------------

    def do_capability(self, cursor: Cursor) -> Result:
        cursor.end()
        return [b"* CAPABILITY " + self.offer.capabilities(secure=self.secure) + b"\r\n"], ""

    def do_noop(self, cursor: Cursor) -> Result:
        cursor.end()
        return [], ""

    def do_logout(self, cursor: Cursor) -> Result:
        cursor.end()
        self.over = True
        self.view = None
        return [b"* BYE logging out\r\n"], ""

    def do_id(self, cursor: Cursor) -> Result:
        self.client_id = cursor.rest
        return [b'* ID ("name" ' + quoted(self.offer.name.encode()) + b")\r\n"], ""

    # -- mailboxes -----------------------------------------------------------------------------------------------------

    def _store(self) -> MailStore:
        assert self.user is not None
        return self.user.store

    def _find(self, name: bytes) -> tuple[MailStore, bytes]:
        assert self.user is not None
        store, inner, _ = self.user.locate(name)
        return store, inner

    def _box(self, cursor: Cursor) -> Mailbox:
        store, name = self._find(cursor.mailbox())
        return store.get(name)

    def do_enable(self, cursor: Cursor) -> Result:
        while not cursor.at_end():
            cursor.atom()
            if not cursor.at_end():
                cursor.space()
        return [b"* ENABLED\r\n"], ""

    def do_select(self, cursor: Cursor) -> Result:
        return self._select(cursor, read_only=False)

    def do_examine(self, cursor: Cursor) -> Result:
        return self._select(cursor, read_only=True)

    def _select(self, cursor: Cursor, *, read_only: bool) -> Result:
        self.view = None
        box = self._box(cursor)
        cursor.end()
        self.view = View(box, read_only=read_only)
        return self.view.greeting(), "READ-ONLY" if read_only else "READ-WRITE"

    def do_create(self, cursor: Cursor) -> Result:
        store, name = self._find(cursor.mailbox())
        special: tuple[bytes, ...] = ()
        if cursor.skip(b" (USE "):
            special = tuple(flag.capitalize() for flag in cursor.flags())
            cursor.need(b")")
        cursor.end()
        store.create(name, special=special)
        return [], ""

    def do_delete(self, cursor: Cursor) -> Result:
        store, name = self._find(cursor.mailbox())
        cursor.end()
        box = store.find(name)
        store.delete(name)
        if self.view is not None and self.view.box is box:
            self.view = None
        return [], ""

    def do_rename(self, cursor: Cursor) -> Result:
        store, name = self._find(cursor.mailbox())
        cursor.space()
        other, new_name = self._find(cursor.mailbox())
        cursor.end()
        if other is not store:
            raise MailboxError("cannot rename across accounts", "CANNOT")
        store.rename(name, new_name)
        return [], ""

    def do_subscribe(self, cursor: Cursor) -> Result:
        store, name = self._find(cursor.mailbox())
        cursor.end()
        store.subscribe(name)
        return [], ""

    def do_unsubscribe(self, cursor: Cursor) -> Result:
        store, name = self._find(cursor.mailbox())
        cursor.end()
        store.unsubscribe(name)
        return [], ""

    def do_list(self, cursor: Cursor) -> Result:
        return self._listing().listing(cursor), ""

    def do_lsub(self, cursor: Cursor) -> Result:
        return self._listing().lsub(cursor), ""

    def _listing(self) -> Listing:
        assert self.user is not None
        return Listing(self.user, self.offer.extensions)

    def do_status(self, cursor: Cursor) -> Result:
        name = cursor.mailbox()
        store, inner = self._find(name)
        cursor.space()
        items = cursor.words()
        cursor.end()
        return [status_line(store.get(inner), name, items)], ""

    def do_namespace(self, cursor: Cursor) -> Result:
        cursor.end()
        if not self.offer.has("NAMESPACE"):
            raise BadCommand("unknown command")
        assert self.user is not None
        store = self._store()
        personal = _namespaces([(store.prefix, store.separator)])
        other = _namespaces([(self.user.other_users, b"/")] if self.user.other_users else [])
        shared = _namespaces(list(self.offer.shared))
        return [b"* NAMESPACE " + personal + b" " + other + b" " + shared + b"\r\n"], ""

    def do_append(self, cursor: Cursor) -> Result:
        store, name = self._find(cursor.mailbox())
        messages: list[tuple[bytes, list[bytes], datetime | None]] = []
        while not cursor.at_end() or not messages:
            cursor.space()
            flags = cursor.flags() if cursor.peek(b"(") else []
            if flags or cursor.peek(b" "):
                cursor.space()
            date = None
            if cursor.peek(b'"'):
                date = cursor.date_time()
                cursor.space()
            messages.append((cursor.string(), flags, date))
        if len(messages) > 1 and not self.offer.has("MULTIAPPEND"):
            raise BadCommand("one message at a time")
        box = store.get(name, "TRYCREATE")
        for data, _, _ in messages:
            self._check_message(data)
        if not store.room_for(sum(len(data) for data, _, _ in messages)):
            raise MailboxError("Quota exceeded", "OVERQUOTA")
        added = [box.add(data, flags, date) for data, flags, date in messages]
        self.wake()
        if not self.offer.has("UIDPLUS"):
            return [], ""
        return [], f"APPENDUID {box.uidvalidity} {uid_set(m.uid for m in added).decode()}"

    def _check_message(self, data: bytes) -> None:
        if not data:
            raise MailboxError("a message cannot be empty")
        if len(data) > self.offer.message_limit:
            raise MailboxError("message is too big", "TOOBIG")
        if self.offer.refuse_nul and b"\0" in data:
            raise MailboxError("message contains NUL characters")

    # -- access lists --------------------------------------------------------------------------------------------------

    def _acl_box(self, cursor: Cursor) -> tuple[bytes, Mailbox]:
        if not self.offer.has("ACL"):
            raise BadCommand("unknown command")
        name = cursor.mailbox()
        store, inner = self._find(name)
        return name, store.get(inner)

    def do_getacl(self, cursor: Cursor) -> Result:
        name, box = self._acl_box(cursor)
        cursor.end()
        assert self.user is not None
        entries = {self.user.name: ALL_RIGHTS, **box.acl}
        shown = b"".join(b" " + quoted(who.encode()) + b" " + rights.encode() for who, rights in entries.items())
        return [b"* ACL " + astring(name) + shown + b"\r\n"], ""

    def do_setacl(self, cursor: Cursor) -> Result:
        _, box = self._acl_box(cursor)
        cursor.space()
        who = cursor.astring().decode("utf-8", "replace")
        cursor.space()
        rights = cursor.astring().decode("ascii", "replace")
        cursor.end()
        sign, letters = (rights[0], rights[1:]) if rights[:1] in ("+", "-") else ("", rights)
        if set(letters) - set(ALL_RIGHTS + "cd"):
            raise BadCommand("unknown right")
        old = box.acl.get(who, "")
        if sign == "+":
            letters = old + "".join(c for c in letters if c not in old)
        elif sign == "-":
            letters = "".join(c for c in old if c not in letters)
        box.acl[who] = letters
        if not letters:
            del box.acl[who]
        return [], ""

    def do_deleteacl(self, cursor: Cursor) -> Result:
        _, box = self._acl_box(cursor)
        cursor.space()
        box.acl.pop(cursor.astring().decode("utf-8", "replace"), None)
        cursor.end()
        return [], ""

    def do_myrights(self, cursor: Cursor) -> Result:
        name, _ = self._acl_box(cursor)
        cursor.end()
        return [b"* MYRIGHTS " + astring(name) + b" " + ALL_RIGHTS.encode() + b"\r\n"], ""

    def do_listrights(self, cursor: Cursor) -> Result:
        name, _ = self._acl_box(cursor)
        cursor.space()
        who = cursor.astring()
        cursor.end()
        letters = " ".join(ALL_RIGHTS).encode()
        return [b"* LISTRIGHTS " + astring(name) + b" " + quoted(who) + b' "" ' + letters + b"\r\n"], ""

    def do_proxyauth(self, cursor: Cursor) -> Result:
        if self.offer.proxy is None:
            raise BadCommand("unknown command")
        assert self.user is not None
        name = cursor.astring().decode("utf-8", "surrogateescape")
        cursor.end()
        self.user = self.offer.proxy(self.user, name)
        self.view = None
        return [], ""

    # -- messages ------------------------------------------------------------------------------------------------------

    def _on_messages(self, tag: bytes, word: bytes, cursor: Cursor, *, by_uid: bool) -> list[bytes]:
        view = self.view
        assert view is not None
        code = b""
        if word == b"FETCH":
            lines = view.fetch(cursor, by_uid=by_uid, unknown=self.offer.unknown_items)
        elif word == b"STORE":
            lines = view.store(cursor, by_uid=by_uid)
            self.wake()
        elif word == b"SEARCH":
            lines = view.search(cursor, tag, by_uid=by_uid, extended=self.offer.has("ESEARCH"))
        elif word in (b"COPY", b"MOVE"):
            lines, code = self._copy(view, word, cursor, by_uid=by_uid)
        elif word == b"EXPUNGE":
            if by_uid and not self.offer.has("UIDPLUS"):
                raise BadCommand("unknown UID command")
            wanted = cursor.sequence_set() if by_uid else None
            cursor.end()
            lines, _ = view.expunge(wanted)
            self.wake()
        elif word == b"CHECK":
            lines = []
        else:  # CLOSE and UNSELECT
            if word == b"CLOSE" and not view.read_only:
                view.box.expunge()
                self.wake()
            self.view = None
            lines = []
        quiet = not by_uid and word in (b"FETCH", b"STORE", b"SEARCH")
        return [*lines, *self._updates(expunge=not quiet), tag + b" OK " + code + word.title() + b" completed\r\n"]

    def _copy(self, view: View, word: bytes, cursor: Cursor, *, by_uid: bool) -> tuple[list[bytes], bytes]:
        if word == b"MOVE" and not self.offer.has("MOVE"):
            raise BadCommand("unknown command")
        numbers = cursor.sequence_set()
        cursor.space()
        store, name = self._find(cursor.mailbox())
        cursor.end()
        target, messages, copies = view.copy(numbers, store, name, by_uid=by_uid)
        code = b""
        if copies and self.offer.has("UIDPLUS"):
            sets = uid_set(m.uid for m in messages) + b" " + uid_set(m.uid for m in copies)
            code = b"[COPYUID %d " % target.uidvalidity + sets + b"] "
        lines: list[bytes] = []
        if word == b"MOVE":
            lines = ([b"* OK " + code + b"moved\r\n"] if code else []) + view.move(messages)
            code = b""
        self.wake()
        return lines, code


Result = tuple[list[bytes], str]


def _namespaces(entries: list[tuple[bytes, bytes]]) -> bytes:
    if not entries:
        return b"NIL"
    shown = b"".join(b"(" + quoted(prefix) + b" " + (quoted(s) if s else b"NIL") + b")" for prefix, s in entries)
    return b"(" + shown + b")"


_COMMANDS: dict[bytes, Callable[[ImapSession, Cursor], Result]] = {
    name.removeprefix("do_").upper().encode(): method
    for name, method in vars(ImapSession).items()
    if name.startswith("do_")
}
_ANYWHERE = (b"CAPABILITY", b"NOOP", b"LOGOUT", b"ID")
_ON_MESSAGES = (b"FETCH", b"STORE", b"SEARCH", b"COPY", b"MOVE", b"EXPUNGE", b"CHECK", b"CLOSE", b"UNSELECT")
_UID_COMMANDS = (b"FETCH", b"STORE", b"SEARCH", b"COPY", b"MOVE", b"EXPUNGE")
_STATES = {  # 0: always, 1: logged in, 2: a mailbox is selected
    **dict.fromkeys(_COMMANDS, 1),
    **dict.fromkeys(_ANYWHERE, 0),
    **dict.fromkeys(_ON_MESSAGES, 2),
}
