"""Which mailbox becomes which. Pure: two lists of mailboxes in, pairs and what is left out, with reasons, out.

A name is taken apart at the source's separator, its prefix removed, each part decoded and put into the
form that the migration guide gives it, and put together with the target's separator and prefix. Two
mailboxes never become one: the second gets a name of its own, and the report says so.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from migrator.special_use import use_of
from wire.imap.names import decode_mailbox, encode_mailbox
from wire.imap.results import Listed

INBOX: Final = "INBOX"  # RFC 3501 5.1: in any case, at any server

_LEVEL_BYTES: Final = 200  # of a part, encoded: servers keep it as a file name (255) with an ending of their own
_VIRTUAL: Final = {
    "\\all": "it shows all messages of the other mailboxes",
    "\\flagged": "it shows the flagged messages of the other mailboxes",
    "\\important": "it shows messages of the other mailboxes",
}
_NO_MAILBOX: Final = frozenset({"\\noselect", "\\nonexistent"})


@dataclass(frozen=True, slots=True)
class Naming:
    """How one side forms names: of the account's own mailboxes, and of those that belong to others."""

    separator: bytes | None = None
    prefix: bytes = b""  # of the personal namespace
    foreign: tuple[bytes, ...] = ()  # prefixes of other users' and shared namespaces
    certain: bool = False  # the server said so (NAMESPACE); otherwise a prefix may be guessed from its list


@dataclass(frozen=True, slots=True)
class Pair:
    """A source mailbox and the target mailbox its messages go to; names as on the wire."""

    source: bytes
    target: bytes
    notes: tuple[str, ...] = ()

    @property
    def source_name(self) -> str:
        """For a person."""
        return show(self.source)

    @property
    def target_name(self) -> str:
        """For a person."""
        return show(self.target)


@dataclass(frozen=True, slots=True)
class Plan:
    """Pairs in the order to copy them, INBOX first; every other mailbox of the source, with the reason."""

    pairs: tuple[Pair, ...]
    skipped: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """What the flags say about names. Prefixes are as on the wire."""

    source_prefix: bytes = b""
    target_prefix: bytes = b""
    skip: frozenset[str] = frozenset()
    renames: Mapping[str, str] = field(default_factory=dict)
    only: frozenset[bytes] | None = None  # the subscribed ones, with --subscribed


def plan_mailboxes(
    listed: Sequence[Listed],
    source: Naming,
    target: Naming,
    options: PlanOptions,
    *,
    existing: Iterable[bytes] = (),
    known: Mapping[bytes, bytes] | None = None,
    special: Mapping[str, bytes] | None = None,
) -> Plan:
    """The pairs to copy. `existing` are the target's mailboxes, `known` the names chosen in earlier runs, which stay.

    `special` are the target's mailboxes by their use: those of the source with the same use go there (--special-use).
    The result does not depend on the order of the lists.
    """
    known = known or {}
    source = _with_guessed_prefix(source, listed) if not options.source_prefix else source
    skipped: list[tuple[str, str]] = []
    names = _Names(target, options, existing)
    wanted: list[tuple[Listed, str]] = []
    for entry in sorted({entry.name: entry for entry in listed}.values(), key=_inbox_first):
        reason = _why_not(entry, source, options)
        if reason is None:
            wanted.append((entry, _local_name(entry, source, options)))
        elif reason:
            skipped.append((show(entry.name), reason))
    pairs: dict[bytes, Pair] = {}
    for entry, local in wanted:
        if entry.name in known:
            pairs[entry.name] = names.stay(entry, local, known[entry.name])
    drafts = [(entry, names.compose(entry, local, source)) for entry, local in wanted if entry.name not in known]
    pairs.update(names.place_by_use(drafts, special or {}))
    drafts = [(entry, draft) for entry, draft in drafts if entry.name not in pairs]
    # Names that need no change are given out first, so that a changed one never takes the place of a real one.
    for entry, draft in sorted(drafts, key=lambda item: (bool(item[1].notes), *_inbox_first(item[0]))):
        pairs[entry.name] = names.settle(entry, draft)
    ordered = tuple(pairs[entry.name] for entry, _ in wanted)
    return Plan(ordered, tuple(skipped))


def show(name: bytes) -> str:
    """A name as a person reads it; never fails, never shows a control character."""
    text = _mend(decode_mailbox(name))
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def safer_name(name: bytes, separator: bytes | None) -> bytes:
    """A name for a target that refuses `name`: without the characters that servers are known to refuse.

    The same as `name` if there is nothing left to change.
    """
    between = (separator or b"").decode("latin-1")
    parts = decode_mailbox(name).split(between) if between else [decode_mailbox(name)]
    clean = []
    for part in parts:
        text = "".join("_" if c in _REFUSED_SOMEWHERE or not c.isprintable() else c for c in _mend(part))
        clean.append(_shorten(text.strip(" ") or "_"))
    return encode_mailbox(between.join(clean))


def ancestors(name: bytes, separator: bytes | None) -> list[bytes]:
    """The mailboxes above `name`, the topmost first."""
    if not separator:
        return []
    parts = name.split(separator)
    return [separator.join(parts[:count]) for count in range(1, len(parts)) if parts[count - 1]]


def counterpart(name: bytes, targets: Mapping[bytes, bytes]) -> bytes | None:
    """The target's name of a source mailbox, by the names of those that are copied; INBOX in any case."""
    if name in targets:
        return targets[name]
    if is_inbox(name):
        return next((target for source, target in targets.items() if is_inbox(source)), None)
    return None


_REFUSED_SOMEWHERE: Final = '"*%\\&<>|?:'


@dataclass(frozen=True, slots=True)
class _Draft:
    name: bytes
    notes: tuple[str, ...] = ()
    given: bool = False  # by --renameMailbox: two mailboxes may be sent into one on purpose


class _Names:
    """The target's names: what is taken, and how a new one is formed."""

    def __init__(self, target: Naming, options: PlanOptions, existing: Iterable[bytes]) -> None:
        self._target = target
        self._options = options
        self._between = (target.separator or b"").decode("latin-1")
        self._taken: set[str] = set()  # folded: two names that differ in case only are one at many servers
        self._exact = set(existing)
        self._existing = {_fold(show(name)): name for name in sorted(self._exact, reverse=True)}

    def stay(self, entry: Listed, local: str, name: bytes) -> Pair:
        """What an earlier run decided holds: its messages are there."""
        self._taken.add(_fold(show(name)))
        wanted = _renamed(entry, local, self._options.renames)
        if wanted is None or self._placed(wanted, given=True) == name:
            return Pair(entry.name, name)
        return Pair(entry.name, name, (f"stays at {show(name)!r}, where an earlier run has copied it",))

    def compose(self, entry: Listed, local: str, source: Naming) -> _Draft:
        """The name for a source mailbox, whoever else has it, and what was changed in it."""
        wanted = _renamed(entry, local, self._options.renames)
        if wanted is not None:
            return _Draft(self._placed(wanted, given=True), (f"renamed to {wanted!r} as asked",), given=True)
        if is_inbox(entry.name) or (self._options.source_prefix and local.upper() == INBOX):
            return _Draft(self._placed(INBOX, given=True))
        between = (entry.separator or source.separator or b"").decode("latin-1")
        parts = local.split(between) if between else [local]
        if parts[0].upper() == INBOX:
            parts[0] = INBOX  # a child of INBOX
        changed = [part if part == INBOX and not at else self._guide_form(part) for at, part in enumerate(parts)]
        name = (self._between or "-").join(changed)
        notes = ("its name was changed: the target cannot have it as it is",) if changed != parts else ()
        return _Draft(self._placed(name), notes)

    def place_by_use(self, drafts: Sequence[tuple[Listed, _Draft]], special: Mapping[str, bytes]) -> dict[bytes, Pair]:
        """The pairs of mailboxes that go where the target keeps mail of their use; each place is given out once."""
        asked_for = {_fold(show(draft.name)) for _, draft in drafts if draft.given}
        pairs = {}
        for entry, draft in drafts:
            use = use_of(entry)
            place = special.get(use) if use else None
            if use is None or place is None or draft.given:
                continue
            folded = _fold(show(place))
            if folded in self._taken or folded in asked_for or is_inbox(place) or _is_foreign(place, self._target):
                continue
            self._taken.add(folded)
            notes = () if place == draft.name else (f"goes to {show(place)!r}, the target's mailbox for {use[1:]}",)
            pairs[entry.name] = Pair(entry.name, place, notes)
        return pairs

    def settle(self, entry: Listed, draft: _Draft) -> Pair:
        """The final name: as drafted, spelled as the target has it already, or with a number if it is taken."""
        if draft.given:
            return Pair(entry.name, draft.name, draft.notes)
        notes = list(draft.notes)
        name = draft.name
        folded = _fold(show(name))
        there = self._existing.get(folded)
        if there is not None and name not in self._exact and folded not in self._taken:
            notes.append(f"goes to {show(there)!r}, which the target has already")
            name = there
        number = 1
        while _fold(show(name)) in self._taken or (number > 1 and _fold(show(name)) in self._existing):
            number += 1
            name = encode_mailbox(f"{decode_mailbox(draft.name)}_{number}")
        if number > 1:
            notes.append(f"another mailbox has this name at the target already, so it became {show(name)!r}")
        self._taken.add(_fold(show(name)))
        return Pair(entry.name, name, tuple(notes))

    def _placed(self, local: str, *, given: bool = False) -> bytes:
        """`local` below the prefix: the one asked for, else that of the personal namespace, which INBOX never has."""
        name = encode_mailbox(local)
        if self._options.target_prefix:
            return self._options.target_prefix + name
        prefix = self._target.prefix
        return name if given and (is_inbox(name) or name.startswith(prefix)) else prefix + name

    def _guide_form(self, part: str) -> str:
        """One part of a name after the guide's rules, and without what would mean a level of its own."""
        text = _mend(part)
        for ending in (".mbox", ".mdir"):
            if text.lower().endswith(ending):
                text = f"{text[: -len(ending)]}-{text[1 - len(ending) :]}"
        if text[:1] in (".", "~"):
            text = "_" + text[1:]
        body = text.strip(" ")
        text = "_" * (len(text) - len(text.lstrip(" "))) + body + "_" * (len(text) - len(text.rstrip(" ")))
        if not body:
            text = "_" * max(1, len(part))
        text = "".join("_" if c in "\\#" or c == self._between or unicodedata.category(c) == "Cc" else c for c in text)
        return _shorten(text)


def _inbox_first(entry: Listed) -> tuple[bool, bytes]:
    return not is_inbox(entry.name), entry.name


def is_inbox(name: bytes) -> bool:
    """INBOX itself, in any case."""
    return name.upper() == b"INBOX"


def _why_not(entry: Listed, source: Naming, options: PlanOptions) -> str | None:
    """None to copy it, "" to pass over in silence, otherwise the reason for the report."""
    if entry.attributes & _NO_MAILBOX:
        return "" if "\\noselect" in entry.attributes else "it does not exist, it only has children or a subscription"
    asked_for = options.source_prefix and entry.name.startswith(options.source_prefix)
    if not asked_for and _is_foreign(entry.name, source):
        return "it belongs to a shared or another user's namespace"
    for attribute, reason in _VIRTUAL.items():
        if attribute in entry.attributes:
            return f"{reason} ({attribute})"
    if options.only is not None and entry.name not in options.only:
        subscribed_inbox = is_inbox(entry.name) and any(is_inbox(name) for name in options.only)
        if not subscribed_inbox:
            return "it is not subscribed (--subscribed)"
    if not options.skip.isdisjoint(_spellings(entry, _local_name(entry, source, options))):
        return "left out as asked (--skipMailbox)"
    return None


def _is_foreign(name: bytes, source: Naming) -> bool:
    for prefix in source.foreign:
        if not prefix:
            continue  # an empty prefix of others would claim everything; the personal one is more likely meant
        bare = prefix.removesuffix(source.separator) if source.separator else prefix
        if name.startswith(prefix) or name == bare:
            longer = source.prefix.startswith(prefix) and name.startswith(source.prefix)
            return not longer
    return False


def _with_guessed_prefix(source: Naming, listed: Sequence[Listed]) -> Naming:
    """A server without NAMESPACE that has everything below INBOX (Courier, old Cyrus) means `INBOX.` as a prefix."""
    others = [entry.name for entry in listed if not is_inbox(entry.name)]
    if source.certain or source.prefix or not source.separator or not others:
        return source
    prefix = b"INBOX" + source.separator
    if all(name[: len(prefix)].upper() == prefix for name in others):
        return replace(source, prefix=prefix)
    return source


def _local_name(entry: Listed, source: Naming, options: PlanOptions) -> str:
    """The name without the prefix that the source puts before everything."""
    for prefix in (options.source_prefix, source.prefix):
        if prefix and entry.name[: len(prefix)].upper() == prefix.upper() and len(entry.name) > len(prefix):
            return decode_mailbox(entry.name[len(prefix) :])
    return decode_mailbox(entry.name)


def _spellings(entry: Listed, local: str) -> set[str]:
    """What a person may call this mailbox."""
    full = decode_mailbox(entry.name)
    names = {entry.name.decode("latin-1"), full, _mend(full), local, _mend(local)}
    if is_inbox(entry.name):
        names |= {INBOX, INBOX.lower(), "Inbox"}
    return names


def _renamed(entry: Listed, local: str, renames: Mapping[str, str]) -> str | None:
    for name in sorted(_spellings(entry, local) & renames.keys()):
        return renames[name]
    return None


def _mend(text: str) -> str:
    """A name that was not valid modified UTF-7, as the text it was probably meant to be: UTF-8, else Latin-1."""
    text = text.replace("\udc26", "&")
    if text.isascii():
        return text
    try:
        return text.encode("utf-8", "strict").decode()
    except UnicodeEncodeError:
        pass
    raw = text.encode("utf-8", "surrogateescape")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        # what decoded stays, each byte that did not is a Latin-1 character
        return "".join(chr(ord(c) - 0xDC00) if "\udc80" <= c <= "\udcff" else c for c in text)


def _shorten(part: str) -> str:
    while len(encode_mailbox(part)) > _LEVEL_BYTES:
        part = part[:-1]
    return part


def _fold(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
