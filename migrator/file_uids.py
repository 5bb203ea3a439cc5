"""UIDs for messages that have none: what lies in mailbox files keeps the number that it was once given.

Numbers are given in the order in which messages are first seen, and written down before anything is done with them.
Where that record is lost, the mailbox gets another UIDVALIDITY, and the copier finds what it copied by its content.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from migrator.whole_file import write_whole


@dataclass(slots=True)
class FileUids:
    """One mailbox's numbers, by what a message is known by."""

    uidvalidity: int
    next: int = 1
    numbers: dict[str, int] = field(default_factory=dict)

    def number(self, identities: Sequence[str]) -> bool:
        """Give those a number that have none; whether there were any."""
        fresh = [identity for identity in identities if identity not in self.numbers]
        for identity in fresh:
            self.numbers[identity] = self.next
            self.next += 1
        return bool(fresh)


class UidRecord:
    """The records of one source, in a directory; without `writing` (a dry run) new ones are forgotten at the end."""

    def __init__(self, directory: Path, source: str, *, writing: bool = True) -> None:
        self._directory = directory
        self._writing = writing
        self._source = source
        self._read: dict[bytes, FileUids] = {}

    def uids(self, mailbox: bytes, identities: Sequence[str]) -> FileUids:
        """The mailbox's numbers, with one for each of `identities`. OSError where they cannot be written down."""
        known = self._read.get(mailbox) or self._load(mailbox)
        fresh = known is None
        known = known or FileUids(1 + secrets.randbelow(2**31 - 2))
        if known.number(identities) or fresh:
            self._save(mailbox, known)
        self._read[mailbox] = known
        return known

    def _path(self, mailbox: bytes) -> Path:
        name = hashlib.sha256(self._source.encode("utf-8", "surrogateescape") + b"\0" + mailbox).hexdigest()[:32]
        return self._directory / f"{name}.json"

    def _load(self, mailbox: bytes) -> FileUids | None:
        try:
            told = json.loads(self._path(mailbox).read_bytes())
            return FileUids(told["uidvalidity"], told["next"], told["numbers"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def _save(self, mailbox: bytes, known: FileUids) -> None:
        if not self._writing:
            return
        path = self._path(mailbox)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        told = {"uidvalidity": known.uidvalidity, "next": known.next, "numbers": known.numbers}
        write_whole(path, json.dumps(told, separators=(",", ":")).encode("utf-8"))
