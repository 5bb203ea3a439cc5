"""The CLI's commands as typed methods. Names, passwords and texts always travel as quoted data-format strings.

Every method raises what an error reply means (cli_client.errors), Temporary when the session is lost or the deadline
passes, and ProtocolTrouble when the reply's data is not of the command's shape. `deadline` is absolute, in the running
loop's time; without one a command has COMMAND_TIMEOUT seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from cli_client.errors import CliRefused, SessionsExhausted, WrongPassword
from cli_client.format import Value
from cli_client.protocol import Argument, Command, Reply, Word, render_command
from cli_client.replies import dictionary_of, strings_of
from wire.outcome import ProtocolTrouble, Temporary, Trouble
from wire.secret import Secret


@dataclass(frozen=True, slots=True)
class Encrypted:
    """The hash of a password, which the server is to take for one: it goes out behind the binary 002 (migration guide).

    `form` is the hash as the guide has it, without the prefix. ValueError when it holds anything but visible ASCII.
    """

    form: Secret

    def render(self) -> str:
        """The value of the `Password` setting."""
        value = self.form.reveal()
        if not value or not all(0x21 <= byte <= 0x7E for byte in value):
            raise ValueError("a hash consists of visible ASCII characters")
        return "\x02" + value.decode("ascii")


Settings = Mapping[str, Value | Secret | Encrypted]  # a password stays hidden until it is rendered


class Runner(Protocol):
    """What runs commands: a pool, or one connection."""

    async def run(self, command: Command, *, deadline: float | None = None) -> Reply:
        """One command and its reply."""
        ...


class Made(Enum):
    """What `ensure_account` found or did."""

    CREATED = "created"
    EXISTED = "existed"


@dataclass(frozen=True, slots=True)
class DomainObjects:
    """One page of ListDomainObjects: the objects by name, and the cookie of the next page ("" at the end)."""

    total: int
    objects: dict[str, Value]
    aliases: dict[str, Value]
    cookie: str


class Cli:
    """Commands over a pool or a connection."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner

    # -- accounts ------------------------------------------------------------------------------------------------------

    async def create_account(
        self,
        name: str,
        settings: Settings | None = None,
        *,
        kind: str | None = None,
        external: bool = False,
        deadline: float | None = None,
    ) -> None:
        """Make an account; `kind` is the mailbox type as a keyword (MultiMailbox, TextMailbox, ...). Never repeated."""
        arguments: list[Argument] = [name]
        if kind is not None:
            arguments.append(Word(kind))
        if external:
            arguments.append(Word("external"))
        opened, secrets = opened_settings(settings)
        arguments.append(opened)
        await self._do("CreateAccount", *arguments, deadline=deadline, repeatable=False, secrets=secrets)

    async def ensure_account(
        self,
        name: str,
        settings: Settings | None = None,
        *,
        kind: str | None = None,
        external: bool = False,
        deadline: float | None = None,
    ) -> Made:
        """Make an account unless it is there.

        A refusal of any code ("exists" has many), and a session lost after the command went out, are settled by reading
        the account back. If it is not there after a lost session, the command is sent once more: the worst it can meet
        is its own success. AlreadyExists when the name belongs to something that is no account.
        """
        for last in (False, True):
            try:
                await self.create_account(name, settings, kind=kind, external=external, deadline=deadline)
            except (CliRefused, Temporary) as trouble:
                if await self._exists(name, deadline):
                    return Made.EXISTED
                if last or not _is_lost(trouble):
                    raise
            else:
                return Made.CREATED
        raise AssertionError("the second attempt returns or raises")

    async def _exists(self, name: str, deadline: float | None) -> bool:
        try:
            await self.get_account_settings(name, deadline=deadline)
        except CliRefused:
            return False
        return True

    async def delete_account(self, name: str, *, deadline: float | None = None) -> None:
        """Remove an account with all its mail. Never repeated."""
        await self._do("DeleteAccount", name, deadline=deadline, repeatable=False)

    async def update_account_settings(self, name: str, settings: Settings, *, deadline: float | None = None) -> None:
        """Change the settings named; the others stay. NULL or the string `default` as a value removes one."""
        opened, secrets = opened_settings(settings)
        await self._do("UpdateAccountSettings", name, opened, deadline=deadline, secrets=secrets)

    async def set_account_password(self, name: str, password: Secret, *, deadline: float | None = None) -> None:
        """Set the CommuniGate password. ValueError for one with a control character (see `settable`)."""
        _check_settable(password)
        await self._do("SetAccountPassword", name, Word("PASSWORD"), password, deadline=deadline)

    async def verify_account_password(self, name: str, password: Secret, *, deadline: float | None = None) -> bool:
        """Whether `password` is the account's; NoSuchAccount and all else are raised."""
        try:
            await self._do("VerifyAccountPassword", name, Word("PASSWORD"), password, deadline=deadline)
        except WrongPassword:
            return False
        return True

    async def get_account_settings(self, name: str, *, deadline: float | None = None) -> dict[str, Value]:
        """The settings made on the account itself."""
        return dictionary_of(await self._ask("GetAccountSettings", name, deadline=deadline))

    async def get_account_effective_settings(self, name: str, *, deadline: float | None = None) -> dict[str, Value]:
        """The settings with everything inherited filled in."""
        return dictionary_of(await self._ask("GetAccountEffectiveSettings", name, deadline=deadline))

    async def get_account_rights(self, name: str, *, deadline: float | None = None) -> list[str]:
        """The access rights of an administrator; empty for an ordinary user. UnknownCommand on servers without it."""
        return strings_of(await self._ask("GetAccountRights", name, deadline=deadline))

    async def get_account_default_prefs(self, domain: str = "", *, deadline: float | None = None) -> dict[str, Value]:
        """The default preferences of a domain's accounts; of the main domain where none is named."""
        return dictionary_of(await self._ask("GetAccountDefaultPrefs", *_optional(domain), deadline=deadline))

    async def set_account_aliases(self, name: str, aliases: Iterable[str], *, deadline: float | None = None) -> None:
        """Replace the account's aliases."""
        await self._do("SetAccountAliases", name, list(aliases), deadline=deadline)

    async def get_account_aliases(self, name: str, *, deadline: float | None = None) -> list[str]:
        """The account's aliases."""
        return strings_of(await self._ask("GetAccountAliases", name, deadline=deadline))

    async def post_account_alert(self, name: str, text: str, *, deadline: float | None = None) -> None:
        """Show `text` to the user at the next login. Never repeated."""
        await self._do("PostAccountAlert", name, text, deadline=deadline, repeatable=False)

    async def kill_account_sessions(self, name: str, *, deadline: float | None = None) -> None:
        """End the account's open sessions."""
        await self._do("KillAccountSessions", name, deadline=deadline)

    # -- other objects -------------------------------------------------------------------------------------------------

    async def create_forwarder(self, name: str, address: str, *, deadline: float | None = None) -> None:
        """Make a forwarder. Never repeated."""
        await self._do("CreateForwarder", name, Word("TO"), address, deadline=deadline, repeatable=False)

    async def find_forwarders(self, domain: str, address: str, *, deadline: float | None = None) -> list[str]:
        """The domain's forwarders that lead to `address`."""
        return strings_of(await self._ask("FindForwarders", domain, Word("TO"), address, deadline=deadline))

    async def create_group(self, name: str, settings: Settings | None = None, *, deadline: float | None = None) -> None:
        """Make a group. Never repeated."""
        await self._do("CreateGroup", name, opened_settings(settings)[0], deadline=deadline, repeatable=False)

    # -- domains -------------------------------------------------------------------------------------------------------

    async def list_domains(self, *, deadline: float | None = None) -> list[str]:
        """All domains of the server."""
        return strings_of(await self._ask("ListDomains", deadline=deadline))

    async def list_accounts(self, domain: str = "", *, deadline: float | None = None) -> dict[str, Value]:
        """The domain's accounts by name; of the main domain where none is named."""
        return dictionary_of(await self._ask("ListAccounts", *_optional(domain), deadline=deadline))

    async def list_domain_objects(
        self,
        domain: str,
        limit: int,
        *,
        filter_text: str = "",
        kinds: Sequence[str] = ("ACCOUNTS",),
        cookie: str | None = None,
        deadline: float | None = None,
    ) -> DomainObjects:
        """One page of a domain's objects. `kinds` are keywords: ACCOUNTS, ALIASES, FORWARDERS, GROUPS, ..."""
        arguments: list[Argument] = [domain]
        if filter_text:
            arguments += [Word("FILTER"), filter_text]
        arguments.append(Word(str(limit)))
        arguments += [Word(kind) for kind in kinds]
        if cookie is not None:
            arguments += [Word("COOKIE"), cookie]
        return _domain_objects(await self._ask("ListDomainObjects", *arguments, deadline=deadline))

    async def get_domain_settings(self, domain: str = "", *, deadline: float | None = None) -> dict[str, Value]:
        """The settings made on the domain itself."""
        return dictionary_of(await self._ask("GetDomainSettings", *_optional(domain), deadline=deadline))

    async def get_domain_effective_settings(
        self, domain: str = "", *, deadline: float | None = None
    ) -> dict[str, Value]:
        """The domain's settings with everything inherited filled in."""
        return dictionary_of(await self._ask("GetDomainEffectiveSettings", *_optional(domain), deadline=deadline))

    async def update_domain_settings(self, domain: str, settings: Settings, *, deadline: float | None = None) -> None:
        """Change the domain settings named; the others stay."""
        await self._do("UpdateDomainSettings", *_optional(domain), opened_settings(settings)[0], deadline=deadline)

    async def get_account_template(self, domain: str = "", *, deadline: float | None = None) -> dict[str, Value]:
        """The settings that new accounts of the domain get."""
        return dictionary_of(await self._ask("GetAccountTemplate", *_optional(domain), deadline=deadline))

    async def update_account_template(self, domain: str, settings: Settings, *, deadline: float | None = None) -> None:
        """Change the account template's settings named; the others stay."""
        await self._do("UpdateAccountTemplate", *_optional(domain), opened_settings(settings)[0], deadline=deadline)

    # -- the server ----------------------------------------------------------------------------------------------------

    async def get_server_settings(self, *, deadline: float | None = None) -> dict[str, Value]:
        """The server-wide settings."""
        return dictionary_of(await self._ask("GetServerSettings", deadline=deadline))

    async def update_server_settings(self, settings: Settings, *, deadline: float | None = None) -> None:
        """Change the server-wide settings named; the others stay."""
        await self._do("UpdateServerSettings", opened_settings(settings)[0], deadline=deadline)

    async def write_log(self, level: int, text: str, *, deadline: float | None = None) -> None:
        """Put a line into the server's log. Never repeated."""
        await self._do("WriteLog", Word(str(level)), text, deadline=deadline, repeatable=False)

    async def route(self, address: str, *, deadline: float | None = None) -> list[str]:
        """Where mail for `address` goes: module, host, user."""
        return strings_of(await self._ask("Route", address, deadline=deadline))

    # -- mailboxes -----------------------------------------------------------------------------------------------------

    async def create_mailbox(self, name: str, mailbox: str, *, deadline: float | None = None) -> None:
        """Make a mailbox in an account. Never repeated."""
        await self._do("CreateMailbox", name, Word("MAILBOX"), mailbox, deadline=deadline, repeatable=False)

    async def list_mailboxes(
        self, name: str, *, filter_text: str = "", deadline: float | None = None
    ) -> dict[str, Value]:
        """The account's mailboxes by name."""
        arguments: list[Argument] = [name]
        if filter_text:
            arguments += [Word("FILTER"), filter_text]
        return dictionary_of(await self._ask("ListMailboxes", *arguments, deadline=deadline))

    async def set_mailbox_acl(
        self, name: str, mailbox: str, rights: Mapping[str, str], *, deadline: float | None = None
    ) -> None:
        """Change the mailbox's access rights for the identifiers named."""
        await self._do(
            "SetMailboxACL", name, Word("MAILBOX"), mailbox, Word("ACL"), dict(rights.items()), deadline=deadline
        )

    async def set_mailbox_class(
        self, name: str, mailbox: str, mailbox_class: str, *, deadline: float | None = None
    ) -> None:
        """Set the mailbox's class, such as IPF.Appointment."""
        await self._do(
            "SetMailboxClass", name, Word("MAILBOX"), mailbox, Word("CLASS"), mailbox_class, deadline=deadline
        )

    async def set_account_subscription(
        self, name: str, mailboxes: Iterable[str], *, deadline: float | None = None
    ) -> None:
        """Replace the account's subscriptions."""
        await self._do("SetAccountSubscription", name, list(mailboxes), deadline=deadline)

    async def get_account_subscription(self, name: str, *, deadline: float | None = None) -> list[str]:
        """The account's subscriptions."""
        return strings_of(await self._ask("GetAccountSubscription", name, deadline=deadline))

    # ------------------------------------------------------------------------------------------------------------------

    async def _do(
        self,
        keyword: str,
        *arguments: Argument,
        deadline: float | None,
        repeatable: bool = True,
        secrets: tuple[str, ...] = (),
    ) -> None:
        command = render_command(keyword, *arguments, repeatable=repeatable, secrets=secrets)
        await self.runner.run(command, deadline=deadline)

    async def _ask(self, keyword: str, *arguments: Argument, deadline: float | None) -> Value:
        reply = await self.runner.run(render_command(keyword, *arguments, repeatable=True), deadline=deadline)
        return reply.value()


def _is_lost(trouble: Trouble) -> bool:
    """Whether the session broke, so that nobody knows what the server did."""
    return isinstance(trouble, Temporary) and not isinstance(trouble, SessionsExhausted) and not trouble.code


def settable(password: Secret) -> bool:
    """Whether the server can store these bytes as a password: not empty, and no control character.

    A password that begins with byte 2 would be taken for an encrypted one, and others of the kind are as suspect.
    """
    value = password.reveal()
    return bool(value) and not any(byte < 0x20 or byte == 0x7F for byte in value)


def _check_settable(password: Secret) -> None:
    if not settable(password):
        raise ValueError("an empty password, or one with a control character, is never set")


def opened_settings(settings: Settings | None) -> tuple[dict[str, Value], tuple[str, ...]]:
    """The settings with their Secrets as strings, and those strings: for the renderer only."""
    opened: dict[str, Value] = {}
    secrets: list[str] = []
    for key, value in (settings or {}).items():
        if isinstance(value, Encrypted):
            value = value.render()  # noqa: PLW2901  # the opened form replaces it
            secrets += [value, value[1:]]
        elif isinstance(value, Secret):
            _check_settable(value)
            value = value.reveal().decode("utf-8", "surrogateescape")  # noqa: PLW2901  # the opened form replaces it
            secrets.append(value)
        elif key == "Password" and isinstance(value, str):
            _check_settable(Secret(value.encode("utf-8", "surrogateescape")))
            secrets.append(value)
        opened[key] = value
    return opened, tuple(secrets)


def _optional(domain: str) -> tuple[str, ...]:
    return (domain,) if domain else ()


def _domain_objects(value: Value) -> DomainObjects:
    """`(total, {objects}, {aliases}, cookie)`; the server may leave out what is empty."""
    if not isinstance(value, list) or not value:
        raise ProtocolTrouble("the reply is no array")
    total = value[0]
    if isinstance(total, str) and total.isdecimal():
        total = int(total)
    if not isinstance(total, int):
        raise ProtocolTrouble("the reply's array begins with no number")
    dictionaries = [item for item in value[1:] if isinstance(item, dict)]
    cookie = value[-1] if isinstance(value[-1], str) and len(value) > 1 else ""
    return DomainObjects(
        total,
        dictionaries[0] if dictionaries else {},
        dictionaries[1] if len(dictionaries) > 1 else {},
        cookie,
    )
