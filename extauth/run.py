"""Puts the helper together: log, event loop, service, daemon; and takes it apart again."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from extauth.daemon import Daemon
from extauth.log import LogFile, configure
from extauth.notices import Notices
from wire.descriptors import keep_standard_streams, raise_limit

if TYPE_CHECKING:
    from extauth.service import Service
    from extauth.worker_process import EmbeddedWorker
    from migrator.settings import Settings

uvloop: Any
try:
    import uvloop
except ImportError:
    uvloop = None


_YOUNG: Final = 10_000  # objects until the collector looks: a request leaves next to no cycles behind


def run_helper(config: Path) -> int:
    """Serve on descriptors 0 and 1 until the end of input; 0. Nothing is ever written to descriptor 2."""
    keep_standard_streams()
    raise_limit()
    log_file = LogFile()
    log_file.close_stderr()
    configure(log_file)

    async def serve() -> int:
        return await Daemon(config, _Maker(), log_file).run()

    return _runner()(serve())


class _Maker:
    """Makes services, and keeps the embedded worker as the latest configuration has it."""

    def __init__(self) -> None:
        self._worker: EmbeddedWorker | None = None

    def __call__(self, settings: Settings, notices: Notices) -> Service:
        # half of the helper's start: loaded when the first reply is out, or when the first NEW or VRFY comes
        from extauth.service import Service  # noqa: PLC0415 - see above
        from extauth.worker_process import EmbeddedWorker  # noqa: PLC0415 - see above

        if self._worker is None:
            self._worker = EmbeddedWorker(notices)
        self._worker.apply(settings)
        gc.collect()
        gc.freeze()  # what is there now stays; the collector need not look at it again and again
        gc.set_threshold(_YOUNG, 20, 20)
        return Service(settings, notices)


def _runner() -> Callable[[Coroutine[Any, Any, int]], int]:
    """uvloop where it is installed (half the CPU per login), else asyncio's own loop."""
    return asyncio.run if uvloop is None else uvloop.run
