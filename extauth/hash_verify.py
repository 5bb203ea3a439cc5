"""Is this the user's password? Asked of a file of password hashes, where the old server is already gone.

YES when the hash of the password is the stored one; NO only when a whole hash of a known kind is certainly another. A
name that is not in the file is LATER, not NO: the file is a copy of what the old server knew at some hour, and nobody
can tell a user who never was from one who came after it was made.

Slow hashes run in threads, as many for each file as cores can be spared, so that the users of other domains never wait
for them; who finds no thread free waits his turn, until the request's time is up.
"""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from extauth.places import Places
from extauth.verify import Report
from migrator.hash_file import HashFile
from migrator.hash_table import Line, find_account, read_entry
from migrator.password_check import Unverifiable, is_slow, verify
from migrator.passwords import PasswordHash, Scheme
from migrator.settings import DomainSettings
from wire.outcome import Answer, Permanent, Scope, Temporary, Verdict
from wire.secret import Secret

_THREADS: Final = max(1, min(8, (os.cpu_count() or 2) - 1))  # for one file; a core is left to everybody else


class _Source:
    """One file, and the threads that compute for it."""

    def __init__(self, path: Path, domain: DomainSettings) -> None:
        self.file = HashFile(path, domain="" if domain.name == "default" else domain.name)
        threads = min(_THREADS, domain.max_connections)
        self.places = Places(str(path), threads)
        self.threads = ThreadPoolExecutor(threads, "hashes")


class HashVerifier:
    """Checks passwords against hash files. `report` gets a key and a line for what an administrator should mend."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._sources: dict[tuple[Path, str], _Source] = {}

    async def check_password(
        self, domain: DomainSettings, address: str, password: Secret, *, turn_by: float, deadline: float
    ) -> Answer:
        """The file's word on `password`. Waits for a thread until `turn_by`, for the rest until `deadline`."""
        assert domain.hashes is not None  # load_settings refuses verify = "hashes" without a file
        key = (domain.hashes, domain.name)
        source = self._sources.get(key)
        if source is None:
            source = self._sources[key] = _Source(domain.hashes, domain)
        try:
            async with asyncio.timeout_at(deadline):
                line = find_account(await source.file.table(), domain, address)
                if line is None:
                    return Answer(Verdict.LATER, "not in the file of password hashes")
                return await self._compare(source, line, password, turn_by)
        except TimeoutError:
            return Answer(Verdict.LATER, f"{domain.hashes}: the hash could not be computed in time", Scope.SERVER)
        except Temporary as trouble:
            return Answer(Verdict.LATER, str(trouble), Scope.SERVER)
        except Permanent as trouble:
            return Answer(Verdict.LATER, str(trouble), trouble.scope)

    def close(self) -> None:
        """Let go of the threads; what they compute just now comes to its end unheard."""
        for source in self._sources.values():
            source.threads.shutdown(wait=False, cancel_futures=True)

    async def _compare(self, source: _Source, line: Line, password: Secret, turn_by: float) -> Answer:
        stored = read_entry(line)
        try:
            right = await self._run(source, stored, password, turn_by)
        except Unverifiable as trouble:
            self._tell(source, line, stored, str(trouble))
            return Answer(Verdict.LATER, f"the stored password cannot be checked: {trouble}")
        if right:
            return Answer(Verdict.YES, "the password is the stored one")
        return Answer(Verdict.NO, "the password is not the stored one")

    async def _run(self, source: _Source, stored: PasswordHash, password: Secret, turn_by: float) -> bool:
        if not stored.verifiable or not is_slow(stored):
            return verify(stored, password)
        with await source.places.take(turn_by):
            return await asyncio.get_running_loop().run_in_executor(source.threads, verify, stored, password)

    def _tell(self, source: _Source, line: Line, stored: PasswordHash, reason: str) -> None:
        """One line for each kind of trouble of each file; locked accounts and those without a password are none."""
        if stored.scheme in (Scheme.LOCKED, Scheme.ABSENT):
            return
        path = source.file.path
        self._report(
            f"hashes {path} {stored.scheme.value}",  # not the reason, which may differ in every line
            f"{path}:{line.number}: the password of {line.name} cannot be checked: {reason}."
            f" `migrator hashes {path}` lists all such lines",
        )
