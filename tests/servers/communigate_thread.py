"""A simulated CommuniGate whose CLI has a loop of its own, for commands that run one too."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from extauth.sandbox.communigate import CommuniGate


@contextmanager
def served_cli(main_domain: str) -> Iterator[CommuniGate]:
    """The server with its CLI listening; the other listeners stay closed."""
    loop = asyncio.new_event_loop()
    server = CommuniGate(main_domain)
    loop.run_until_complete(server.cli.start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(server.cli.close(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
