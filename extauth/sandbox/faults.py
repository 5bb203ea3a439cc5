"""Faults that a server of the sandbox is told to have: which command, how often, and what happens instead.

Pure: a server asks `Faults.next_for(verb, line)` at every command and does what the Fault says.
"""

from __future__ import annotations

from dataclasses import dataclass

ANY = "*"


@dataclass(slots=True)
class Fault:
    """What happens at one command, in place of the right thing."""

    verb: str  # upper-case command word; CONNECT is the greeting, ANY every command
    executed: bool = False  # whether the command is carried out all the same, before the fault shows
    delay: float = 0.0  # seconds before anything is said
    reply: bytes | None = None  # said in place of the right reply (an IMAP tag is put before it)
    raw: bytes | None = None  # said as it stands: garbage
    hang: bool = False  # nothing is ever said, the connection stays open
    cut: bool = False  # the connection ends after `keep` bytes of the reply
    keep: int = 0
    having: bytes = b""  # only for command lines that hold these bytes
    skip: int = 0  # so many matching commands pass first
    times: int | None = 1  # so often; None: until removed
    hits: int = 0  # how often it struck


class Faults:
    """The faults of one server; at each command the first that fits strikes."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> Fault:
        """Arm `fault`; the same object tells its `hits`."""
        self._faults.append(fault)
        return fault

    def reply(self, verb: str, reply: bytes, *, times: int | None = 1, **details: object) -> Fault:
        """Say `reply` in place of the right one; the command is not carried out unless executed=True."""
        return self.add(_fault(verb, times=times, reply=reply, **details))

    def garbage(self, verb: str, raw: bytes = b"\x00\xff%%% garbage\r\n", *, times: int | None = 1) -> Fault:
        """Say bytes that the protocol does not know."""
        return self.add(_fault(verb, times=times, raw=raw))

    def hang(self, verb: str, *, times: int | None = 1, **details: object) -> Fault:
        """Never answer."""
        return self.add(_fault(verb, times=times, hang=True, **details))

    def cut(self, verb: str, *, times: int | None = 1, **details: object) -> Fault:
        """End the connection: before the command, or with executed=True after `keep` bytes of its reply."""
        return self.add(_fault(verb, times=times, cut=True, **details))

    def slow(self, verb: str, seconds: float, *, times: int | None = None, **details: object) -> Fault:
        """Carry the command out and answer rightly, but late."""
        return self.add(_fault(verb, times=times, delay=seconds, executed=True, **details))

    def remove(self, fault: Fault) -> None:
        """Disarm one fault; nothing happens when it was not armed."""
        if fault in self._faults:
            self._faults.remove(fault)

    def clear(self) -> None:
        """Be a healthy server again."""
        self._faults.clear()

    def next_for(self, verb: str, line: bytes = b"") -> Fault | None:
        """The fault that strikes at this command, counted; None for a command that goes well."""
        for fault in self._faults:
            if fault.verb not in (ANY, verb) or (fault.verb == ANY and verb == "CONNECT") or fault.having not in line:
                continue
            if fault.skip:
                fault.skip -= 1
                continue
            if fault.times is not None and fault.hits >= fault.times:
                continue
            fault.hits += 1
            return fault
        return None


def _fault(verb: str, **details: object) -> Fault:
    fault = Fault(verb.upper())
    for name, value in details.items():
        if name not in Fault.__slots__:
            raise TypeError(f"a fault has no {name}")
        setattr(fault, name, value)
    return fault
