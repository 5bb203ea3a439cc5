"""Whatever in the helper has a fault, each request that has a number is answered, once."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Hashable
from pathlib import Path

import pytest

from extauth.daemon import Daemon
from extauth.lanes import Lane
from extauth.log import LogFile
from extauth.notices import Notices
from extauth.protocol import New, Ok, Reply, Verify
from migrator.settings import Settings
from tests.end_to_end.helper_child import write_config

PLACES = ["make", "lane", "work", "answer", "retire"]


class Faulty:
    """A service with a bug at one place, for names that say so."""

    def __init__(self, place: str) -> None:
        self._place = place

    def _fail(self, place: str, request: New | Verify | None = None) -> None:
        if place == self._place and (request is None or "bug" in request.name):
            raise KeyError(place)

    def lane(self, request: New | Verify) -> Lane:
        self._fail("lane", request)
        return Lane(None, 1)

    def work(self, request: New | Verify) -> Hashable:
        self._fail("work", request)
        return request.number

    async def answer(self, request: New | Verify, deadline: float) -> Reply:
        self._fail("answer", request)
        return Ok()

    async def retire(self, timeout: float) -> None:
        self._fail("retire")


@pytest.mark.parametrize("place", PLACES)
async def test_a_bug_costs_its_own_request_a_failure(tmp_path: Path, place: str) -> None:
    """And none of those beside it."""

    def make(settings: Settings, notices: Notices) -> Faulty:
        if place == "make":
            raise KeyError(place)
        return Faulty(place)

    log, stderr = LogFile(), os.dup(2)  # the log is laid over it
    (stdin, write), (read, stdout) = os.pipe(), os.pipe()
    os.write(write, b"1 VRFY u@d.test x\n2 VRFY bug@d.test x\n3 NEW bug@d.test\n4 VRFY u@d.test y\n")
    os.close(write)
    try:
        daemon = Daemon(write_config(tmp_path), make, log, stdin=stdin, stdout=stdout)
        async with asyncio.timeout(30):
            (code,) = await asyncio.gather(daemon.run(), return_exceptions=True)
        lines = sorted(line for line in os.read(read, 1 << 16).splitlines() if not line.startswith(b"*"))
    finally:
        os.dup2(stderr, 2)
        for descriptor in (stdin, read, stdout, stderr, log.descriptor):
            os.close(descriptor)
    words = [line.split()[:2] for line in lines]
    wrong = {"make": "1234", "retire": ""}.get(place, "23")
    assert words == [[b"%d" % n, b"FAILURE" if str(n) in wrong else b"OK"] for n in range(1, 5)]
    assert code == 0 or place == "retire"
