"""Reading TOML tables strictly: every key is known, every value has its type, every error names file and key.

May not import anything but ``core.errors``; knows nothing of what the keys mean.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, NoReturn

from davfs.core.errors import ConfigError


class Table:
    """One table of a configuration file. Keys are taken out by name; ``done`` refuses what nobody asked for."""

    def __init__(self, file: str, name: str, values: Mapping[str, Any]) -> None:
        self._file = file
        self._name = name
        self._values = values
        self._known: list[str] = []

    def path(self, key: str) -> str:
        """The key as a person finds it in the file: ``dav.listen``."""
        return f"{self._name}.{key}" if self._name else key

    def wrong(self, key: str, message: str) -> NoReturn:
        """Raise the error for a key whose value cannot be used."""
        raise ConfigError(f"{self._file}: {self.path(key)}: {message}", file=self._file, key=self.path(key))

    def _take(self, key: str, kind: type | tuple[type, ...], expected: str, default: Any) -> Any:
        self._known.append(key)
        if key not in self._values:
            if default is _REQUIRED:
                self.wrong(key, f"is missing; give it {expected}")
            return default
        value = self._values[key]
        # bool is an int to Python, but `port = true` is a mistake
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            self.wrong(key, f"must be {expected}, not {value!r}")
        return value

    def has(self, key: str) -> bool:
        """Whether the file gives the key."""
        return key in self._values

    def text(self, key: str, default: Any = ..., choices: tuple[str, ...] = ()) -> str:
        """A string; with ``choices``, one of them."""
        expected = "one of " + ", ".join(repr(c) for c in choices) if choices else "a text"
        value: str = self._take(key, str, expected, _REQUIRED if default is ... else default)
        if choices and value not in choices:
            self.wrong(key, f"must be {expected}, not {value!r}")
        if not choices and value == "" and default != "":
            self.wrong(key, "must not be empty")
        return value

    def integer(self, key: str, default: Any = ..., low: int = 0, high: int | None = None) -> int:
        """A whole number within [low, high]."""
        expected = f"a whole number from {low} to {high}" if high is not None else f"a whole number from {low} on"
        value: int = self._take(key, int, expected, _REQUIRED if default is ... else default)
        if value < low or (high is not None and value > high):
            self.wrong(key, f"must be {expected}, not {value}")
        return value

    def number(self, key: str, default: Any = ..., low: float = 0.0, high: float = 1e9) -> float:
        """A number within [low, high]."""
        expected = f"a number from {low:g} to {high:g}"
        value = float(self._take(key, (int, float), expected, _REQUIRED if default is ... else default))
        if not low <= value <= high:
            self.wrong(key, f"must be {expected}, not {value:g}")
        return value

    def flag(self, key: str, default: bool) -> bool:
        """true or false."""
        value: bool = self._take(key, bool, "true or false", default)
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of strings, empty when it is absent."""
        values: list[Any] = self._take(key, list, "a list of texts", [])
        if not all(isinstance(v, str) for v in values):
            self.wrong(key, f"must be a list of texts, not {values!r}")
        return tuple(values)

    def table(self, key: str, required: bool = True) -> Table:
        """A table inside this one; empty when it is absent and not required."""
        values = self._take(key, dict, f"a table: [{self.path(key)}]", _REQUIRED if required else {})
        return Table(self._file, self.path(key), values)

    def tables(self, key: str, required: bool = False) -> list[Table]:
        """A list of tables (``[[a.b]]``), or of inline tables."""
        expected = f"a list of tables: [[{self.path(key)}]]"
        values = self._take(key, list, expected, _REQUIRED if required else [])
        if not all(isinstance(v, dict) for v in values):
            self.wrong(key, f"must be {expected}, not {values!r}")
        return [Table(self._file, f"{self.path(key)}[{i}]", v) for i, v in enumerate(values)]

    def done(self) -> None:
        """Refuse keys that were never asked for."""
        for key in self._values:
            if key not in self._known:
                near = difflib.get_close_matches(key, self._known, 1)
                hint = f" (did you mean {near[0]!r}?)" if near else ""
                raise ConfigError(
                    f"{self._file}: unknown key {self.path(key)!r}{hint}; allowed here: {', '.join(sorted(self._known))}",
                    file=self._file,
                    key=self.path(key),
                )


_REQUIRED: Any = object()
