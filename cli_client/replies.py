"""What a reply's data is taken for. ProtocolTrouble where it is something else."""

from __future__ import annotations

from cli_client.format import NULL, Value
from wire.outcome import ProtocolTrouble


def dictionary_of(value: Value) -> dict[str, Value]:
    """A dictionary; none is an empty one."""
    if value is NULL:
        return {}
    if not isinstance(value, dict):
        raise ProtocolTrouble("the reply is no dictionary")
    return value


def strings_of(value: Value) -> list[str]:
    """An array of strings; none is an empty one."""
    if value is NULL:
        return []
    if not isinstance(value, list):
        raise ProtocolTrouble("the reply is no array")
    strings = [item for item in value if isinstance(item, str)]
    if len(strings) != len(value):
        raise ProtocolTrouble("the reply's array holds something that is no string")
    return strings


def text_of(value: Value) -> str:
    """A string."""
    if not isinstance(value, str):
        raise ProtocolTrouble("the reply's data is no string")
    return value
