"""What an IMAP server of the sandbox offers and how it behaves; tests and `extauth sandbox` change it. No socket."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from extauth.sandbox.imap_listing import MailUser


@dataclass(slots=True)
class Offer:
    """What a server offers and how it behaves; tests change it."""

    name: str = "IMAP server"
    extensions: set[str] = field(
        default_factory=lambda: {
            "LITERAL+",
            "SASL-IR",
            "ID",
            "ENABLE",
            "IDLE",
            "NAMESPACE",
            "UIDPLUS",
            "UNSELECT",
            "CHILDREN",
            "SPECIAL-USE",
            "LIST-EXTENDED",
            "LIST-STATUS",
            "ESEARCH",
            "MOVE",
        }
    )
    login_disabled: bool = False  # LOGIN only after STARTTLS
    tls: bool = False  # whether STARTTLS is offered
    greeting_capabilities: bool = True
    login_capabilities: bool = True
    message_limit: int = 64 << 20
    refuse_nul: bool = True
    shared: tuple[tuple[bytes, bytes], ...] = ()  # prefix and separator of shared namespaces
    proxy: Callable[[MailUser, str], MailUser] | None = None  # PROXYAUTH
    unknown_items: frozenset[bytes] = frozenset()  # FETCH items that are answered with BAD, such as BODY.PEEK

    def be_ancient(self, *, peeks: bool) -> None:
        """Offer no extension, and of FETCH what servers before IMAP4rev1 knew; RFC822.PEEK only where it `peeks`."""
        self.extensions.clear()
        self.greeting_capabilities = self.login_capabilities = False
        self.unknown_items = frozenset({b"BODY.PEEK"} if peeks else {b"BODY.PEEK", b"RFC822.PEEK"})

    def has(self, extension: str) -> bool:
        """Whether it is offered."""
        return extension in self.extensions

    def capabilities(self, *, secure: bool) -> bytes:
        """The CAPABILITY line."""
        words = ["IMAP4rev1", "AUTH=PLAIN", *sorted(self.extensions)]
        if self.tls and not secure:
            words.append("STARTTLS")
        if self.login_disabled and not secure:
            words.remove("AUTH=PLAIN")
            words.append("LOGINDISABLED")
        return " ".join(words).encode()
