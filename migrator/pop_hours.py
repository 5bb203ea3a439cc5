"""A copy by POP within the hours of --window: broken off when they end, gone on with when they come again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from migrator.carry_over import carry_over
from migrator.options import CopyOptions
from migrator.report import CopyInterrupted, Report
from migrator.session import Surroundings
from migrator.window import WindowClosed
from wire.outcome import Temporary


async def within_window(
    attempt: Callable[[Report], Awaitable[None]], report: Report, options: CopyOptions, around: Surroundings
) -> Report:
    """The report that `attempt` fills in; it is called once more each time that the window has closed on it.

    The connections are not held meanwhile: a maildrop is locked as long as somebody has it open. Raises
    CopyInterrupted for Temporary, also for a closed window where nobody waits for it to open.
    """
    started = asyncio.get_running_loop().time()
    while True:
        await around.wait_for_window(options.window)
        earlier, report = report, Report(report.source, report.target)
        try:
            await attempt(report)
        except Temporary as trouble:
            carry_over(earlier, report)
            if isinstance(trouble, WindowClosed) and around.patient:
                continue
            if not report.mailboxes:
                raise
            raise CopyInterrupted(trouble, report) from trouble
        finally:
            report.seconds = asyncio.get_running_loop().time() - started
        carry_over(earlier, report)
        return report
