"""The CLI's commands about where mail goes: forwarders, groups, mailing lists, account mail rules, the Router.

Forms as the published clients have them (Perl CGP::CLI 2.7, PHP); errors and deadlines as in cli_client.commands.
"""

from __future__ import annotations

from collections.abc import Sequence

from cli_client.commands import Cli, Settings, opened_settings
from cli_client.errors import UnknownCommand
from cli_client.format import Value
from cli_client.protocol import Argument, Word
from cli_client.replies import dictionary_of, strings_of, text_of
from wire.outcome import ProtocolTrouble


class MailCli(Cli):
    """Cli, and the commands that route, share and sort mail."""

    # -- forwarders and groups -----------------------------------------------------------------------------------------

    async def get_forwarder(self, name: str, *, deadline: float | None = None) -> str:
        """Where a forwarder leads. CliRefused where there is none."""
        return text_of(await self._ask("GetForwarder", name, deadline=deadline))

    async def get_group(self, name: str, *, deadline: float | None = None) -> dict[str, Value]:
        """A group's settings; its members under `Members`. CliRefused where there is none."""
        return dictionary_of(await self._ask("GetGroup", name, deadline=deadline))

    async def set_group(self, name: str, settings: Settings, *, deadline: float | None = None) -> None:
        """Replace a group's settings, members included."""
        await self._do("SetGroup", name, opened_settings(settings)[0], deadline=deadline)

    # -- mailing lists -------------------------------------------------------------------------------------------------

    async def create_list(self, name: str, owner: str, *, deadline: float | None = None) -> None:
        """Make a mailing list that belongs to the account `owner` of the same domain. Never repeated."""
        await self._do("CreateList", name, Word("for"), owner, deadline=deadline, repeatable=False)

    async def get_list(self, name: str, *, deadline: float | None = None) -> dict[str, Value]:
        """A mailing list's settings. CliRefused where there is none."""
        return dictionary_of(await self._ask("GetList", name, deadline=deadline))

    async def subscribe(self, name: str, address: str, *, deadline: float | None = None) -> None:
        """Put an address on a list, without a message to it. One that is there already may be refused."""
        await self._do("List", name, Word("subscribe"), Word("silently"), address, deadline=deadline)

    async def list_subscribers(self, name: str, *, deadline: float | None = None) -> list[str]:
        """The addresses on a list."""
        return strings_of(await self._ask("ListSubscribers", name, deadline=deadline))

    # -- account mail rules --------------------------------------------------------------------------------------------

    async def get_account_mail_rules(self, name: str, *, deadline: float | None = None) -> list[Value]:
        """The account's mail rules, each `(priority, name, conditions, actions)`."""
        value = await self._ask("GetAccountMailRules", name, deadline=deadline)
        if not isinstance(value, list):
            raise ProtocolTrouble("the mail rules are no array")
        return value

    async def set_account_mail_rules(self, name: str, rules: Sequence[Value], *, deadline: float | None = None) -> None:
        """Replace all of the account's mail rules."""
        await self._do("SetAccountMailRules", name, list(rules), deadline=deadline)

    async def add_account_mail_rule(self, name: str, rule: list[Value], *, deadline: float | None = None) -> None:
        """Add a rule whose name no other has; where the server has no command for one rule, all are written anew."""
        try:
            await self._do("UpdateAccountMailRule", name, rule, deadline=deadline)
        except UnknownCommand:
            rules = await self.get_account_mail_rules(name, deadline=deadline)
            await self.set_account_mail_rules(name, [*rules, rule], deadline=deadline)

    # -- the Router ----------------------------------------------------------------------------------------------------

    async def get_router_table(self, *, deadline: float | None = None) -> list[str]:
        """The lines of the Router table, comments included, each as it stands; only a line feed ends one."""
        lines = text_of(await self._ask("GetRouterTable", deadline=deadline)).split("\n")
        return lines if lines[-1] else lines[:-1]

    async def set_router_table(self, lines: Sequence[str], *, deadline: float | None = None) -> None:
        """Replace the Router table. ValueError for a line that would be two."""
        arguments: list[Argument] = ["".join(_one_line(line) + "\n" for line in lines)]
        await self._do("SetRouterTable", *arguments, deadline=deadline)


def _one_line(line: str) -> str:
    if "\n" in line:
        raise ValueError(f"not one line: {line!r}")
    return line
