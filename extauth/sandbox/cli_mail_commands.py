"""What the CLI commands about forwarders, groups, lists, rules and routing do to the Directory. No socket."""

from __future__ import annotations

from cli_client.format import Value
from extauth.sandbox.accounts import Account, Directory, Domain, Refusal, change_settings
from extauth.sandbox.cli_arguments import Arguments


class MailCommands:
    """The part of Commands that is about where mail goes."""

    __slots__ = ()
    directory: Directory

    # -- forwarders and groups -----------------------------------------------------------------------------------------

    def create_forwarder(self, a: Arguments) -> None:
        name, domain = self.directory.free_name(a.string("forwarder name"))
        a.need("TO")
        domain.forwarders[name] = a.string("address")

    def delete_forwarder(self, a: Arguments) -> None:
        name, domain = self._object(a)
        if domain.forwarders.pop(name, None) is None:
            raise Refusal(513, "unknown forwarder")

    def get_forwarder(self, a: Arguments) -> Value:
        name, domain = self._object(a)
        if name not in domain.forwarders:
            raise Refusal(513, "unknown forwarder")
        return domain.forwarders[name]

    def list_forwarders(self, a: Arguments) -> Value:
        return list(self._domain(a).forwarders)

    def find_forwarders(self, a: Arguments) -> Value:
        domain = self._domain(a)
        a.need("TO")
        address = a.string("address").lower()
        return [name for name, target in domain.forwarders.items() if target.lower() == address]

    def create_group(self, a: Arguments) -> None:
        name, domain = self.directory.free_name(a.string("group name"))
        domain.groups[name] = dict(a.dictionary("settings")) if len(a) else {}

    def set_group(self, a: Arguments) -> None:
        name, domain = self._object(a)
        if name not in domain.groups:
            raise Refusal(513, "unknown group")
        domain.groups[name] = dict(a.dictionary("settings"))

    def get_group(self, a: Arguments) -> Value:
        name, domain = self._object(a)
        if name not in domain.groups:
            raise Refusal(513, "unknown group")
        return dict(domain.groups[name])

    def list_groups(self, a: Arguments) -> Value:
        return list(self._domain(a).groups)

    # -- mailing lists -------------------------------------------------------------------------------------------------

    def create_list(self, a: Arguments) -> None:
        name, domain = self.directory.free_name(a.string("list name"))
        a.need("for")
        owner = a.string("owner")
        account = self.directory.account(owner if "@" in owner else f"{owner}@{domain.name}")
        if account.domain is not domain:
            raise Refusal(513, "unknown user account")
        domain.lists[name] = {"Owner": account.name}
        domain.subscribers[name] = {}

    def get_list(self, a: Arguments) -> Value:
        name, domain = self._list(a)
        return dict(domain.lists[name])

    def update_list(self, a: Arguments) -> None:
        name, domain = self._list(a)
        change_settings(domain.lists[name], a.dictionary("settings"))

    def list_lists(self, a: Arguments) -> Value:
        return list(self._domain(a).lists)

    def list(self, a: Arguments) -> None:
        name, domain = self._list(a)
        how = a.keyword("subscribe", "feed", "digest", "index", "null", "banned", "unsubscribe")
        if how is None:
            raise Refusal(501, "list operation is missing")
        while a.keyword("silently", "confirm"):
            pass
        address = a.string("subscriber").lower()
        a.end()
        if how == "unsubscribe":
            domain.subscribers[name].pop(address, None)
        elif address in domain.subscribers[name] and how == "subscribe":
            raise Refusal(501, "this address is subscribed already")
        else:
            domain.subscribers[name][address] = how

    def list_subscribers(self, a: Arguments) -> Value:
        name, domain = self._list(a)
        wanted = a.string("filter").lower() if a.keyword("FILTER") else ""
        limit = a.number("limit") if len(a) else None
        return [*[address for address in domain.subscribers[name] if wanted in address][:limit]]

    # -- account mail rules --------------------------------------------------------------------------------------------

    def get_account_mail_rules(self, a: Arguments) -> Value:
        return [*self._account(a).mail_rules]

    def set_account_mail_rules(self, a: Arguments) -> None:
        account = self._account(a)
        rules = a.take("rules")
        if not isinstance(rules, list):
            raise Refusal(501, "rules are not an array")
        account.mail_rules = [_checked_rule(rule) for rule in rules]

    def update_account_mail_rule(self, a: Arguments) -> None:
        account = self._account(a)
        gone = a.string("rule name") if a.keyword("DELETE") else None
        rule = None if gone is not None else _checked_rule(a.take("rule"))
        name = gone if rule is None else rule[1]
        account.mail_rules = [kept for kept in account.mail_rules if kept[1] != name]
        if rule is not None:
            account.mail_rules.append(rule)

    # -- routing -------------------------------------------------------------------------------------------------------

    def get_router_table(self, a: Arguments) -> Value:
        a.end()
        return self.directory.router_table

    def set_router_table(self, a: Arguments) -> None:
        self.directory.router_table = a.string("router table")
        a.end()

    def route(self, a: Arguments) -> Value:
        address = a.string("address")
        a.keyword("mail", "access", "signal")
        name, domain_name = self.directory.split(address)
        domain = self.directory.domains.get(domain_name)
        if domain is None:
            return ["SMTP", domain_name, address]
        if name in domain.forwarders:
            return self.route(Arguments(b'"' + domain.forwarders[name].encode() + b'"'))
        if name in domain.groups:
            return ["GROUP", f"{name}@{domain.name}", ""]
        account = self.directory.find(address)
        if account is None:
            raise Refusal(513, "unknown user account")
        return ["LOCAL", account.address, ""]

    # -- arguments -----------------------------------------------------------------------------------------------------

    def _account(self, a: Arguments) -> Account:
        return self.directory.account(a.string("account name"))

    def _object(self, a: Arguments) -> tuple[str, Domain]:
        name, domain = self.directory.split(a.string("name"))
        return name, self.directory.domain(domain)

    def _domain(self, a: Arguments) -> Domain:
        return self.directory.domain(a.string("domain name") if len(a) else "")

    def _list(self, a: Arguments) -> tuple[str, Domain]:
        name, domain = self._object(a)
        if name not in domain.lists:
            raise Refusal(513, "unknown mailing list")
        return name, domain


def _checked_rule(rule: Value) -> list[Value]:
    """A rule is a priority, a name, an array of conditions and an array of actions, both arrays of strings."""
    if not isinstance(rule, list) or len(rule) != 4:
        raise Refusal(501, "incorrect rule format")
    priority, name, conditions, actions = rule
    if not str(priority).isdigit() or not 0 <= int(str(priority)) <= 10 or not isinstance(name, str) or not name:
        raise Refusal(501, "incorrect rule priority or name")
    for part in (conditions, actions):
        if not isinstance(part, list) or not all(isinstance(item, list) and item for item in part):
            raise Refusal(501, "incorrect rule conditions or actions")
        if not all(isinstance(word, str) for item in part if isinstance(item, list) for word in item):
            raise Refusal(501, "incorrect rule conditions or actions")
    return rule
