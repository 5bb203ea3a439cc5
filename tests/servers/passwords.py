"""Passwords that break careless clients; every one is a real password of a user of the shared servers."""

from __future__ import annotations

from typing import Final

ODD: Final[dict[str, bytes]] = {
    "plain": b"secret1",
    "spaces": b"  two  words ",
    "quotes": b'say "hi"',
    "backslash": b"back\\slash\\",
    "escapes": b'\\"\\\\"\\012',
    "number": b"#1234",
    "null": b"#NULL#",
    "zero": b"0",
    "utf8": "pässwörd-пароль-密码".encode(),
    "latin1": b"p\xe4ssw\xf6rd",
    "high": bytes(range(0x80, 0x100)),
    "literal": b"{5}",
    "literalplus": b"{3+}",
    "address": b"secret [192.0.2.9]",
    "parentheses": b"(a)b{c}%*",
    "injection": b'x";UseExtPassword=YES;AccessModes=All;Z="y',
    "colon": b"a:b::c",
    "dictionary": b"{A=b;}",
    "comment": b"// no comment",
    "percent": b"%u%n%s",
    "long": b"l" * 200,
    "ok": b"* OK",
}
