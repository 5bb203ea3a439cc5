"""The configuration while the helper runs: read at start, and again whenever one of its files changes.

A configuration that cannot be used leaves `current` empty and `problems` full; the helper stays up and answers FAILURE.
Looks at the files when it is asked to, at most once a second, and never raises.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from migrator.config import ConfigurationTrouble, Settings, load_settings
from migrator.file_stamp import Stamp, stamp_of

_PAUSE: Final = 1.0  # seconds between two looks: an edit counts at once for a person, and costs nothing per request


class LiveSettings:
    """`current` are the settings in force, or None; then `problems` says why, one line each, without secrets."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.current: Settings | None = None
        self.problems: list[str] = []
        self._stamps: dict[Path, Stamp | None] = {}
        self._next_look = 0.0

    def refresh(self, now: float, *, at_once: bool = False) -> bool:
        """Look whether a file has changed, if the last look is a while ago; True where it was read again."""
        if now < self._next_look and not at_once:
            return False
        self._next_look = now + _PAUSE
        if self._stamps and all(stamp_of(path) == stamp for path, stamp in self._stamps.items()):
            return False
        self.load()
        return True

    def load(self) -> None:
        """Read everything again."""
        before = _stamps((self.path, *self._stamps))
        files: Iterable[Path]
        try:
            self.current = load_settings(self.path)
            self.problems, files = [], self.current.files
        except ConfigurationTrouble as trouble:
            self.current = None
            self.problems, files = trouble.lines(), trouble.files
        except Exception as bug:  # noqa: BLE001 - whatever the file holds, the helper stays up and says what happened
            self.current = None
            self.problems, files = [f"{self.path}: cannot be read: {type(bug).__name__}"], (self.path,)
        # a file that changed while it was read keeps its older stamp and is read again at the next look
        self._stamps = {path: before[path] if path in before else stamp_of(path) for path in (self.path, *files)}


def _stamps(paths: Iterable[Path]) -> dict[Path, Stamp | None]:
    return {path: stamp_of(path) for path in paths}
