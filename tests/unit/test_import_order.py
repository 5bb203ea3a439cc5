"""Packages import only to the right: extauth -> migrator -> cli_client -> wire."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[2]
_ORDER = ("extauth", "migrator", "cli_client", "wire")
# wire has never heard of accounts, jobs or CommuniGate: it speaks of bytes, replies and connections.
_FOREIGN_TO_WIRE = {"sqlite3", "click", "rich", "structlog", "msgspec", "nacl", "aiosmtpd", "tomllib", "passlib"}
_PURE = {
    "wire/outcome.py",
    "wire/secret.py",
    "wire/buffer.py",
    "wire/compression.py",
    "wire/imap/parser.py",
    "wire/imap/encoder.py",
    "wire/imap/names.py",
    "wire/imap/classify.py",
    "cli_client/format.py",
    "cli_client/protocol.py",
    "cli_client/errors.py",
    "migrator/header_repair.py",
    "migrator/line_ends.py",
    "migrator/oddities.py",
    "migrator/plan.py",
    "migrator/repair.py",
    "migrator/marks.py",
    "migrator/model.py",
    "migrator/wrapping.py",
    "extauth/protocol.py",
    "extauth/names.py",
}
_ADDRESS_PARSING = {"inet_pton", "inet_ntop", "AF_INET", "AF_INET6"}  # of `socket`, and pure
_IMPURE_MODULES = {"asyncio", "socket", "sqlite3", "ssl", "subprocess", "time", "random", "threading", "selectors"}


def _modules(package: str) -> list[Path]:
    return sorted((_ROOT / package).rglob("*.py"))


def _imports(path: Path) -> set[str]:
    """Every module that `path` imports, at the top or late, as a dotted name."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"), str(path))):
        if isinstance(node, ast.Import):
            found.update(name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: import by the full name, so that the order can be read"
            found.add(node.module or "")
    return found


@pytest.mark.parametrize("package", _ORDER)
def test_package_imports_only_to_the_right(package: str) -> None:
    """A package to the left is never imported, not even late or for types."""
    left = set(_ORDER[: _ORDER.index(package)])
    paths = _modules(package)
    assert paths, f"no modules in {package}: is this test looking in the right place?"
    wrong = {
        f"{path.relative_to(_ROOT)} imports {name}"
        for path in paths
        for name in _imports(path)
        if name.partition(".")[0] in left | {"tests"}
    }
    assert not wrong


def test_wire_knows_only_bytes_and_connections() -> None:
    """wire neither stores, logs, configures nor prints."""
    wrong = {
        f"{path.relative_to(_ROOT)} imports {name}"
        for path in _modules("wire")
        for name in _imports(path)
        if name.partition(".")[0] in _FOREIGN_TO_WIRE
    }
    assert not wrong


@pytest.mark.parametrize("name", sorted(_PURE))
def test_pure_module_does_no_io(name: str) -> None:
    """A pure module has no await, clock, socket or SQL: it can be tested with values alone."""
    path = _ROOT / name
    nodes = list(ast.walk(ast.parse(path.read_text("utf-8"))))
    impure = {module for module in _imports(path) if module.partition(".")[0] in _IMPURE_MODULES - {"socket"}}
    sockets = {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "socket"
    }
    assert not impure
    assert sockets <= _ADDRESS_PARSING
    assert not [node.lineno for node in nodes if isinstance(node, ast.Await)]
