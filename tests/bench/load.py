"""Drives a helper process over its pipes as CommuniGate does, and measures it from outside."""

from __future__ import annotations

import os
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Measured:
    """One scenario: how fast, how late, how dear."""

    requests: int
    outstanding: int
    seconds: float
    cpu_seconds: float
    p50: float
    p99: float
    rss_before: int
    rss_after: int
    words: Counter[str] = field(default_factory=Counter)

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds

    @property
    def cpu_ms(self) -> float:
        """The helper's own CPU for a request, in milliseconds, all its threads."""
        return self.cpu_seconds / self.requests * 1000


class Helper:
    """A helper process on pipes."""

    def __init__(self, command: Sequence[str], environment: dict[str, str] | None = None) -> None:
        begun = time.perf_counter()
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, **(environment or {})}
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()
        self._rest = b""
        self._number = 0
        self.notes: list[str] = []
        self.run([b"INTF 7"], 1)
        self.start_seconds = time.perf_counter() - begun

    @property
    def pid(self) -> int:
        """The helper's process."""
        return self._process.pid

    def cpu(self) -> float:
        """CPU seconds of the process so far: user and system, all threads, no children."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICK

    def rss(self) -> int:
        """Resident memory in KiB."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        return 0

    def run(self, requests: Sequence[bytes], outstanding: int) -> Measured:
        """Send `requests` with at most `outstanding` unanswered at a time; return when all are answered."""
        sent: dict[int, float] = {}
        taken: list[float] = []
        words: Counter[str] = Counter()
        waiting = iter(requests)
        rss, cpu, begun = self.rss(), self.cpu(), time.perf_counter()
        self._fill(waiting, sent, outstanding)
        while sent:
            for line in self._lines():
                number, _, rest = line.partition(b" ")
                if number == b"*":
                    self.notes.append(rest.decode("utf-8", "replace"))
                    continue
                taken.append(time.perf_counter() - sent.pop(int(number)))
                words[rest.split(b" ")[0].decode()] += 1
            self._fill(waiting, sent, outstanding)
        seconds = time.perf_counter() - begun
        taken.sort()
        return Measured(
            len(taken),
            outstanding,
            seconds,
            self.cpu() - cpu,
            taken[len(taken) // 2],
            taken[min(len(taken) - 1, len(taken) * 99 // 100)],
            rss,
            self.rss(),
            words,
        )

    def _fill(self, waiting: Iterator[bytes], sent: dict[int, float], outstanding: int) -> None:
        output = bytearray()
        while len(sent) < outstanding and (request := next(waiting, None)) is not None:
            self._number += 1
            sent[self._number] = time.perf_counter()
            output += b"%d %s\n" % (self._number, request)
        while output:
            del output[: os.write(self._in, output)]

    def _lines(self) -> list[bytes]:
        data = os.read(self._out, 1 << 16)
        if not data:
            raise RuntimeError(f"the helper ended with {self._process.wait()}")
        *lines, self._rest = (self._rest + data).split(b"\n")
        return lines

    def close(self) -> int:
        """End its input and wait for it."""
        os.close(self._in)
        self._process.stdin = None
        while os.read(self._out, 1 << 16):
            pass
        return self._process.wait(30)
