"""SECURITY.md names a test for each promise; each of them is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[2]
_PROMISES = re.findall(r"^\| (.+) \| `(\S+\.py)::(\w+)` \|$", (_ROOT / "SECURITY.md").read_text("utf-8"), re.MULTILINE)


def test_there_are_promises() -> None:
    """And no line of their tables is without a test."""
    text = (_ROOT / "SECURITY.md").read_text("utf-8")
    tables = re.findall(r"\| promise \| test \|\n\| --- \| --- \|\n((?:\|.*\n)+)", text)
    assert sum(table.count("\n") for table in tables) == len(_PROMISES) > 20


@pytest.mark.parametrize(("file", "name"), sorted({(file, name) for _, file, name in _PROMISES}))
def test_its_test_exists(file: str, name: str) -> None:
    tree = ast.parse((_ROOT / "tests" / file).read_text("utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
