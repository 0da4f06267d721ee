"""Reads the fields of a JSON object one by one and by type, so that documents of older and newer programs are read as
far as possible, and reports the fields that nobody read."""

from __future__ import annotations

import json
import math
from typing import Any

_LONGEST_S = 1e9  # thirty years
_NUMBERS = (int, float)  # a union would be made anew with each call


class Fields:
    """Reads values from `data`. Each method reads the field `key`; a value of another type is treated as missing, and
    noted in `wrong`: what was expected and found. Objects inside note it there as well."""

    def __init__(self, data: object, *, path: str = "", wrong: list[str] | None = None) -> None:
        self._left: dict[str, object] = data.copy() if isinstance(data, dict) else {}
        self._path = path
        self.wrong: list[str] = [] if wrong is None else wrong

    @property
    def left(self) -> list[str]:
        """Return the names of the fields that were not read."""
        return [str(key) for key in self._left]

    def __contains__(self, key: str) -> bool:
        return key in self._left

    def take(self, key: str) -> object:
        """Return the value as it is; None if there is none."""
        return self._left.pop(key, None)

    def note(self, key: str, expected: str, found: object) -> None:
        """Note that the value of `key` is of another type; nothing if there is no value."""
        if found is not None:
            self.wrong.append(f"{self._path}{key}: expected {expected}, found {shown(found)}")

    def text(self, key: str) -> str:
        value = self._left.pop(key, None)
        if value is None or isinstance(value, str):
            return value or ""
        if isinstance(value, _NUMBERS) and not isinstance(value, bool) and finite(value) is not None:
            return str(value)  # as older harnesses wrote some
        self.note(key, "a string", value)
        return ""

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of strings."""
        value = self._left.pop(key, None)
        if not isinstance(value, list | tuple):
            self.note(key, "a list of strings", value)
            return ()
        for each in value:
            if not isinstance(each, str):
                self.note(key, "a list of strings", each)
                break
        return tuple(each if isinstance(each, str) else shown(each) for each in value)

    def texts_by_name(self, key: str) -> dict[str, str]:
        """An object whose values are strings."""
        value = self._left.pop(key, None)
        if not isinstance(value, dict):
            self.note(key, "an object", value)
            return {}
        return {str(name): text if isinstance(text, str) else shown(text) for name, text in value.items()}

    def flag(self, key: str) -> bool:
        value = self._left.pop(key, None)
        if not isinstance(value, bool):
            self.note(key, "true or false", value)
        return value is True

    def count(self, key: str, default: int = 0) -> int:
        value = self._left.pop(key, None)
        if isinstance(value, int) and not isinstance(value, bool) and finite(value) is not None:
            return value
        self.note(key, "a whole number", value)
        return default

    def number(self, key: str) -> float | None:
        """A finite number."""
        value = self._left.pop(key, None)
        number = finite(value)
        if number is None:
            self.note(key, "a number", value)
        return number

    def seconds(self, key: str) -> float:
        """Return a duration in seconds: 0.0 if it is missing, negative or longer than any."""
        value = self.number(key)
        if value is None or value <= 0:
            return 0.0
        if value > _LONGEST_S:
            self.note(key, "seconds", value)
            return 0.0
        return value

    def inner(self, key: str) -> Fields:
        """An object in this one."""
        value = self._left.pop(key, None)
        if not isinstance(value, dict):
            self.note(key, "an object", value)
        return self._of(key, value)

    def inner_or_none(self, key: str) -> Fields | None:
        """An object in this one; None if there is none, or an empty one."""
        inner = self.inner(key)
        return inner if inner.left else None

    def inners(self, key: str) -> list[Fields]:
        """A list of objects in this one."""
        value = self._left.pop(key, None)
        if not isinstance(value, list | tuple):
            self.note(key, "a list of objects", value)
            return []
        for each in value:
            if not isinstance(each, dict):
                self.note(key, "a list of objects", each)
        return [self._of(key, each) for each in value]

    def _of(self, key: str, value: object) -> Fields:
        return Fields(value, path=f"{self._path}{key}.", wrong=self.wrong)


def shown(value: object, limit: int = 60) -> str:
    """`value` for a message, cut short. A number may have more digits than Python prints."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        return f"a value of type {type(value).__name__}"
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def json_object(text: str | bytes) -> dict[str, Any]:
    """Parse a JSON object. Raises ValueError for anything else."""
    try:
        told = json.loads(text)
    except RecursionError:
        raise ValueError("expected an object, found one within another too deep to be read") from None
    if not isinstance(told, dict):
        raise ValueError(f"expected an object, found {type(told).__name__}")
    return told


def finite(value: object) -> float | None:
    """Return `value` as a float if it is a finite number, else None."""
    if type(value) is float:
        return value if math.isfinite(value) else None
    if isinstance(value, bool) or not isinstance(value, _NUMBERS):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def filled(**fields: object) -> dict[str, object]:
    """Return the fields that are not empty: no None, no empty text, list or object."""
    return {name: value for name, value in fields.items() if value or value == 0}
