"""What each CLI command does to the Directory. No socket: a line of arguments in, a data object or None out.

Commands, arguments and codes follow the published clients; names and keywords match in any case.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from cli_client.format import Value
from extauth.sandbox.accounts import Account, Directory, Domain, Refusal, change_settings, check_mailbox_name
from extauth.sandbox.cli_arguments import Arguments
from extauth.sandbox.cli_mail_commands import MailCommands
from extauth.sandbox.mailstore import Mailbox, MailboxError, MailStore
from wire.imap.names import decode_mailbox, encode_mailbox

KINDS = ("MultiMailbox", "TextMailbox", "MailDirMailbox", "SlicedMailbox", "AGrade", "BGrade", "CGrade")


@dataclass(slots=True)
class Commands(MailCommands):
    """Carries commands out. `log` keeps WriteLog's lines; `kill_sessions` is told whose sessions to end."""

    directory: Directory
    log: list[tuple[str, str]] = field(default_factory=list)
    kill_sessions: Callable[[Account], None] = lambda account: None

    def run(self, line: bytes) -> Value | None:
        """One command line; the data it gives. Raises Refusal."""
        word, _, rest = line.strip().partition(b" ")
        method = _COMMANDS.get(word.decode("ascii", "replace").lower())
        if method is None:
            raise Refusal(500, "unknown command")
        arguments = Arguments(rest)
        try:
            return method(self, arguments)
        except MailboxError as error:
            raise Refusal(539 if error.code == "CANNOT" else 501, error.text) from None

    # -- accounts ------------------------------------------------------------------------------------------------------

    def create_account(self, a: Arguments) -> None:
        name = a.string("account name")
        kind = a.keyword(*KINDS)
        external = a.keyword("external") is not None
        settings = a.dictionary("settings") if len(a) else {}
        a.end()
        proper = {k.lower(): k for k in KINDS}
        self.directory.create_account(name, settings, kind=proper[kind or "multimailbox"], external=external)

    def delete_account(self, a: Arguments) -> None:
        self.directory.delete_account(self._account(a))

    def rename_account(self, a: Arguments) -> None:
        account = self._account(a)
        a.need("INTO")
        self.directory.rename_account(account, a.string("new name"))

    def update_account_settings(self, a: Arguments) -> None:
        account = self._account(a)
        settings = a.dictionary("settings")
        a.end()
        self.directory.update_account(account, settings)

    def get_account_settings(self, a: Arguments) -> Value:
        return dict(self._account(a).settings)

    def get_account_effective_settings(self, a: Arguments) -> Value:
        return self._account(a).effective

    def set_account_password(self, a: Arguments) -> None:
        account = self._account(a)
        a.need("PASSWORD")
        self.directory.update_account(account, {"Password": a.string("password")})

    def verify_account_password(self, a: Arguments) -> None:
        account = self._account(a)
        a.need("PASSWORD")
        password = a.string("password").encode("utf-8", "surrogateescape")
        if not account.effective.get("Password"):
            raise Refusal(514, "password is not set")
        if not account.accepts(password):
            raise Refusal(515, "incorrect password")

    def set_account_aliases(self, a: Arguments) -> None:
        account = self._account(a)
        self.directory.set_aliases(account, a.strings("aliases"))

    def get_account_aliases(self, a: Arguments) -> Value:
        return list(self._account(a).aliases)

    def set_account_rights(self, a: Arguments) -> None:
        account = self._account(a)
        account.rights = a.strings("rights")

    def get_account_rights(self, a: Arguments) -> Value:
        return list(self._account(a).rights)

    def get_account_default_prefs(self, a: Arguments) -> Value:
        return dict(self._domain(a).account_defaults)

    def get_account_prefs(self, a: Arguments) -> Value:
        return dict(self._account(a).prefs)

    def post_account_alert(self, a: Arguments) -> None:
        account = self._account(a)
        a.keyword("ALERT")
        account.alerts.append(a.string("alert text"))

    def kill_account_sessions(self, a: Arguments) -> None:
        self.kill_sessions(self._account(a))

    # -- mailboxes -----------------------------------------------------------------------------------------------------

    def create_mailbox(self, a: Arguments) -> None:
        account, name = self._mailbox_name(a)
        kind = a.string("class") if a.keyword("CLASS") else ""
        self._auth(a)
        account.store.create(name).kind = kind

    def delete_mailbox(self, a: Arguments) -> None:
        account, name = self._mailbox_name(a)
        self._auth(a)
        account.store.delete(name)

    def list_mailboxes(self, a: Arguments) -> Value:
        account = self._account(a)
        if a.keyword("FILTER"):
            a.string("filter")
        self._auth(a)
        return {decode_mailbox(box.name): _listed(account.store, box) for box in account.store}

    def set_mailbox_acl(self, a: Arguments) -> None:
        box = self._mailbox(a)
        self._auth(a)
        a.keyword("ACL")
        for who, rights in a.dictionary("access list").items():
            _change_rights(box, who, str(rights))

    def get_mailbox_acl(self, a: Arguments) -> Value:
        return dict(self._mailbox(a).acl)

    def set_mailbox_class(self, a: Arguments) -> None:
        box = self._mailbox(a)
        a.need("CLASS")
        box.kind = a.string("class")

    def set_account_subscription(self, a: Arguments) -> None:
        account = self._account(a)
        account.store.subscriptions = [encode_mailbox(name) for name in a.strings("subscription list")]

    def get_account_subscription(self, a: Arguments) -> Value:
        return [decode_mailbox(name) for name in self._account(a).store.subscriptions]

    # -- domains and the server ----------------------------------------------------------------------------------------

    def list_domains(self, a: Arguments) -> Value:
        a.end()
        return list(self.directory.domains)

    def main_domain_name(self, a: Arguments) -> Value:
        a.end()
        return self.directory.main_domain

    def create_domain(self, a: Arguments) -> None:
        self.directory.create_domain(a.string("domain name"), a.dictionary("settings") if len(a) else None)

    def list_accounts(self, a: Arguments) -> Value:
        return {account.name: "macnt" for account in self._domain(a).accounts.values()}

    def list_domain_objects(self, a: Arguments) -> Value:
        domain = self._domain(a)
        wanted = a.string("filter").lower() if a.keyword("FILTER") else ""
        limit = a.number("limit")
        kinds: set[str] = set()
        cookie = ""
        while word := a.keyword("ACCOUNTS", "ALIASES", "GROUPS", "FORWARDERS", "MAILLISTS", "COOKIE"):
            if word == "cookie":
                cookie = a.string("cookie")
            else:
                kinds.add(word)
        a.end()
        return _domain_objects(domain, wanted, limit, kinds, cookie)

    def get_domain_settings(self, a: Arguments) -> Value:
        return dict(self._domain(a).settings)

    def get_domain_effective_settings(self, a: Arguments) -> Value:
        return self._domain(a).effective

    def update_domain_settings(self, a: Arguments) -> None:
        domain = self._domain(a) if len(a) > 1 else self.directory.domain("")
        change_settings(domain.settings, a.dictionary("settings"))

    def get_account_template(self, a: Arguments) -> Value:
        return dict(self._domain(a).account_template)

    def update_account_template(self, a: Arguments) -> None:
        domain = self._domain(a) if len(a) > 1 else self.directory.domain("")
        change_settings(domain.account_template, a.dictionary("settings"))

    def get_account_defaults(self, a: Arguments) -> Value:
        return dict(self._domain(a).account_defaults)

    def update_account_defaults(self, a: Arguments) -> None:
        domain = self._domain(a) if len(a) > 1 else self.directory.domain("")
        change_settings(domain.account_defaults, a.dictionary("settings"))

    def get_server_settings(self, a: Arguments) -> Value:
        a.end()
        return dict(self.directory.server_settings)

    def update_server_settings(self, a: Arguments) -> None:
        change_settings(self.directory.server_settings, a.dictionary("settings"))

    def write_log(self, a: Arguments) -> None:
        level = a.take("level")
        self.log.append((str(level), a.string("log line")))

    def noop(self, a: Arguments) -> None:
        a.end()

    # -- arguments -----------------------------------------------------------------------------------------------------

    def _mailbox_name(self, a: Arguments) -> tuple[Account, bytes]:
        account = self._account(a)
        a.need("MAILBOX")
        name = encode_mailbox(a.string("mailbox name"))
        check_mailbox_name(name)
        return account, name

    def _mailbox(self, a: Arguments) -> Mailbox:
        account, name = self._mailbox_name(a)
        box = account.store.find(name)
        if box is None:
            raise Refusal(501, "mailbox does not exist")
        return box

    def _auth(self, a: Arguments) -> None:
        if a.keyword("AUTH"):
            self.directory.account(a.string("account name"))


def _change_rights(box: Mailbox, who: str, rights: str) -> None:
    sign, letters = (rights[:1], rights[1:]) if rights[:1] in ("+", "-") else ("", rights)
    old = box.acl.get(who, "")
    if sign == "+":
        letters = old + "".join(c for c in letters if c not in old)
    elif sign == "-":
        letters = "".join(c for c in old if c not in letters)
    if letters:
        box.acl[who] = letters
    else:
        box.acl.pop(who, None)


def _listed(store: MailStore, box: Mailbox) -> Value:
    """A mailbox is its information; one that is a folder too, an array of that; a mere folder, an empty array."""
    information: list[Value] = [_mailbox_information(box)] if box.selectable else []
    return information if store.has_children(box.name) or not information else information[0]


def _mailbox_information(box: Mailbox) -> Value:
    seen = sum(1 for m in box.messages if b"\\Seen" in m.flags)
    information: dict[str, Value] = {
        "Messages": len(box.messages),
        "Unseen": len(box.messages) - seen,
        "Size": box.size,
        "UIDNext": box.uidnext,
        "UIDValidity": box.uidvalidity,
    }
    if box.kind:
        information["Class"] = box.kind
    return information


def _domain_objects(domain: Domain, wanted: str, limit: int, kinds: set[str], cookie: str) -> Value:
    tables: list[tuple[str, str, list[str]]] = [
        ("accounts", "macnt", list(domain.accounts)),
        ("aliases", "alias", list(domain.aliases)),
        ("groups", "group", list(domain.groups)),
        ("forwarders", "forwarder", list(domain.forwarders)),
        ("maillists", "list", list(domain.lists)),
    ]
    found = {n: kind for table, kind, names in tables if not kinds or table in kinds for n in names if wanted in n}
    names = sorted(found)
    start = next((i for i, n in enumerate(names) if n > cookie), len(names)) if cookie else 0
    page = names[start : start + limit]
    objects: dict[str, Value] = {n: found[n] for n in page}
    reply: list[Value] = [len(found), objects]
    if start + limit < len(names):
        reply.append(page[-1] if page else cookie)
    return reply


_COMMANDS: dict[str, Callable[[Commands, Arguments], Value | None]] = {
    name.replace("_", ""): method
    for name, method in (vars(MailCommands) | vars(Commands)).items()
    if callable(method) and not name.startswith("_") and name not in ("run", "kill_sessions")
}
