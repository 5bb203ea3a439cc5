"""Before a password is asked about at the old server: has it just been refused, and may this client go on trying?

The tables are `wrong_passwords`; here is what they cannot know: what a person has said to forget, which addresses are
CommuniGate's own, and how many may wait at once. Nobody but a suspect costs more than a look into the tables.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from extauth.forgotten import Forgotten
from extauth.guard import OwnServers
from extauth.notices import Notices
from extauth.protocol import Ok, Refuse, Reply, Retry
from extauth.wrong_passwords import Attempt, WrongPasswords
from migrator.settings import Settings
from wire.outcome import Verdict

_WAITING: Final = 4  # a quarter of the helper's places at most are given to those who pause; more go on at once
_REFUSED: Final = "the old server has just refused this password"
_BRAKED: Final = "too many wrong passwords for this account or from this client; try again later"


class PasswordGuard:
    """Decides who may ask the old server about a password, for one service."""

    def __init__(
        self,
        settings: Settings,
        notices: Notices,
        own: OwnServers,
        key: bytes,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._notices = notices
        self._own = own
        self._wrong = WrongPasswords(settings.limits, key, clock)
        self._forgotten = Forgotten(settings.state.directory)
        self._most_waiting = max(1, settings.helper.concurrency // _WAITING)
        self._waiting = 0

    def refusal(self, address: str, client: str, digest: bytes) -> Refuse | None:
        """ERROR where this client has just been told so about the same password."""
        if not self._wrong.is_refused(address, client, digest):
            return None
        self._forget()
        return Refuse(_REFUSED) if self._wrong.is_refused(address, client, digest) else None

    async def admit(self, address: str, client: str, deadline: float) -> Attempt | Retry:
        """Leave to ask, perhaps after a pause; FAILURE where there were too many wrong passwords."""
        attempt = self._wrong.admit(address, client)
        if attempt is not None and not attempt.pause:
            return attempt
        return await self._reconsider(attempt, address, client, deadline)

    def close(self, attempt: Attempt, reply: Reply, client: str, digest: bytes) -> None:
        """What came of it. Only the old server's own refusal is a wrong password."""
        verdict = Verdict.LATER
        if isinstance(reply, Ok):
            verdict = Verdict.YES
        elif isinstance(reply, Refuse) and reply.wrong:
            verdict = Verdict.NO
        self._wrong.close(attempt, verdict, client, digest)

    async def _reconsider(self, attempt: Attempt | None, address: str, client: str, deadline: float) -> Attempt | Retry:
        forgotten = self._forget()
        shared = bool(client) and await self._own.has_address(client)
        if forgotten or shared:
            if attempt is not None:
                self._wrong.close(attempt, Verdict.LATER, client, b"")
            attempt = self._wrong.admit(address, client, shared=shared)
        if attempt is None:
            # one key for all of them: the names are anybody's, and CommuniGate's log must not fill with them
            self._notices.alarm("wrong passwords", f"too many wrong passwords: {address} from {client} gets FAILURE")
            return Retry(_BRAKED)
        if attempt.pause and self._waiting < self._most_waiting:
            await self._wait(attempt.pause, deadline)
        return attempt

    async def _wait(self, pause: float, deadline: float) -> None:
        left = deadline - asyncio.get_running_loop().time()
        self._waiting += 1
        try:
            await asyncio.sleep(max(0.0, min(pause, left / 4)))  # the old server needs its time too
        finally:
            self._waiting -= 1

    def _forget(self) -> bool:
        """Whether a person has said `extauth forget` since the last look; it is done then."""
        names = self._forgotten.look()
        for name in names:
            self._wrong.forget(name)
        return bool(names)
