"""The data objects behind a command word of the simulated CLI."""

from __future__ import annotations

from collections.abc import Mapping

from cli_client.format import FormatError, Value, parse_object
from extauth.sandbox.accounts import Refusal


class Arguments:
    """The data objects behind a command word, taken from left to right."""

    def __init__(self, text: bytes) -> None:
        self._values: list[Value] = []
        self._bare: list[bool] = []  # only what stands without quotes can be a keyword
        at = 0
        try:
            while rest := text[at:].lstrip():
                value, at = parse_object(text, at)
                self._values.append(value)
                self._bare.append(not rest.startswith(b'"'))
        except FormatError as error:
            raise Refusal(501, f"syntax error: {error.problem}") from None

    def __len__(self) -> int:
        return len(self._values)

    def take(self, what: str) -> Value:
        """The next object, whatever it is."""
        if not self._values:
            raise Refusal(501, f"{what} is missing")
        self._bare.pop(0)
        return self._values.pop(0)

    def string(self, what: str) -> str:
        """The next object, a string."""
        value = self.take(what)
        if not isinstance(value, str):
            raise Refusal(501, f"{what} is not a string")
        return value

    def dictionary(self, what: str) -> Mapping[str, Value]:
        """The next object, a dictionary."""
        value = self.take(what)
        if not isinstance(value, dict):
            raise Refusal(501, f"{what} is not a dictionary")
        return value

    def strings(self, what: str) -> list[str]:
        """The next object, an array of strings (a lone string counts as one)."""
        value = self.take(what)
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
            raise Refusal(501, f"{what} is not an array of strings")
        return [str(item) for item in items]

    def number(self, what: str) -> int:
        """The next object, a number, bare digits too."""
        value = self.take(what)
        try:
            return value if isinstance(value, int) else int(str(value))
        except ValueError:
            raise Refusal(501, f"{what} is not a number") from None

    def keyword(self, *words: str) -> str | None:
        """The next object if it is one of these words, in lower case; else nothing is taken."""
        if not self._values or not self._bare[0]:
            return None
        if str(self._values[0]).lower() not in {word.lower() for word in words}:
            return None
        return self.string("keyword").lower()

    def need(self, word: str) -> None:
        """Take a word that must stand here."""
        if self.keyword(word) is None:
            raise Refusal(501, f"{word} is missing")

    def end(self) -> None:
        """Refuse what is left over."""
        if self._values:
            raise Refusal(501, "too many parameters")
