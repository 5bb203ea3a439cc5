"""What the guards cost: two helpers on the same servers, one with all of them and one without, turn by turn.

Everything that keeps the helper from harm and can be switched off belongs into `_OFF`: then it is measured here. Only
ratios of CPU time are told, as medians of several rounds: they hold on a machine with other work.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

from tests.bench.load import Helper

if TYPE_CHECKING:
    from tests.bench.login import World

MOST: Final = 1.10  # times the CPU without guards
ROUNDS: Final = 60  # short ones, so that what else the machine does meets both alike
_OUTSTANDING: Final = 50
_WARM_UP: Final = 50
_OFF: Final = {
    "[helper]": ["guards = false"],
    "[limits]": ['remember_refused = "0s"', 'wrong_per_account = "0"', 'wrong_per_client = "0"'],
    "[domains.default]": ['create_limit = "0"', 'unknown_limit = "0"', 'unknown_limit_per_client = "0"'],
}


def without_guards(configuration: str) -> str:
    """The same configuration with everything in `_OFF`."""
    for table, lines in _OFF.items():
        if table in configuration:
            configuration = configuration.replace(table, "\n".join([table, *lines]))
        else:
            configuration += "\n".join(["", table, *lines, ""])
    return configuration


def compare(world: World, scenario: str, requests: Sequence[bytes]) -> dict[str, float]:
    """CPU milliseconds a request with guards and without, and their ratio."""
    helpers = {}
    for name in ("on", "off"):
        path = world.configuration(f"{scenario}-{name}", scenario)
        if name == "off":
            path.write_text(without_guards(path.read_text()))
        helpers[name] = Helper([sys.executable, "-m", "extauth", "serve", "--config", str(path)])
        world.forget_accounts()
        helpers[name].run(requests[:_WARM_UP], _OUTSTANDING)
    size = (len(requests) - _WARM_UP) // ROUNDS
    cost: dict[str, list[float]] = {"on": [], "off": []}
    for number in range(ROUNDS):
        start = _WARM_UP + number * size
        part = requests[start : start + size]
        for name in ("on", "off") if number % 2 else ("off", "on"):
            world.forget_accounts()
            before = _cpu(helpers[name].pid)
            measured = helpers[name].run(part, _OUTSTANDING)
            cost[name].append((_cpu(helpers[name].pid) - before) / len(part))
            if measured.words["OK"] != len(part):
                raise SystemExit(f"guards {name}: {dict(measured.words)}; {helpers[name].notes[:3]}")
    for helper in helpers.values():
        helper.close()
    ratios = [with_them / without for with_them, without in zip(cost["on"], cost["off"], strict=True)]
    return {"on_ms": median(cost["on"]), "off_ms": median(cost["off"]), "ratio": median(ratios)}


def _cpu(pid: int) -> float:
    """CPU milliseconds of all threads of a process: finer than the ticks of /proc/PID/stat."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e6
