"""The frame of a real server of the tests: ports of its own, started and started again, stopped by its pid, removed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from tests.servers.process import LOOPBACK, ServerTrouble, Watched, server_directory, tail

_TRIES = 4  # with other ports each: a stranger may have taken one meanwhile


class PrivateServer(ABC):
    """One instance, from `with` to its end. `stop()` and `start()` make an outage: same ports, same mail."""

    def __init__(self, log: str, host: str = LOOPBACK) -> None:
        self.host = host
        self.directory = server_directory()
        self.log = self.directory / log
        self._server = Watched(self.directory, self.log)
        self._has_ports = False

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start, or start again on the same ports."""
        tries = 1 if self._has_ports else _TRIES
        for attempt in range(1, tries + 1):
            if not self._has_ports:
                self._choose_ports()
            try:
                self._launch()
            except ServerTrouble as trouble:
                self._server.stop()
                if attempt == tries or not self._was_taken(trouble):
                    raise
            else:
                self._has_ports = True
                return

    @abstractmethod
    def _choose_ports(self) -> None:
        """Draw ports that are free now."""

    @abstractmethod
    def _launch(self) -> None:
        """Write the configuration and start the process. ServerTrouble when it does not greet."""

    def _was_taken(self, trouble: ServerTrouble) -> bool:
        """Whether it did not start because somebody else has its port."""
        return "already in use" in str(trouble)

    def stop(self) -> None:
        """Stop the server and keep its mail; connections to its ports are refused from now on."""
        self._server.stop()

    def close(self) -> None:
        """Stop and remove everything."""
        self.stop()
        self._server.remove()

    @property
    def pid(self) -> int:
        """The master process, while it runs."""
        return self._server.pid

    def log_tail(self) -> str:
        """The end of its log, for the text of a failure."""
        return tail(self.log)
