"""Reads the fields of a JSON object one by one and by type, so that documents of older and newer programs are read as
far as possible, and reports the fields that nobody read."""

from __future__ import annotations

import math

_NUMBERS = (int, float)  # a union would be made anew with each call


class Fields:
    """Reads values from `data`. Each method reads the field `key`; a value of another type is treated as missing."""

    def __init__(self, data: object) -> None:
        self._left: dict[str, object] = data.copy() if isinstance(data, dict) else {}

    @property
    def left(self) -> list[str]:
        """Return the names of the fields that were not read."""
        return [str(key) for key in self._left]

    def __contains__(self, key: str) -> bool:
        return key in self._left

    def take(self, key: str) -> object:
        """Return the value as it is; None if there is none."""
        return self._left.pop(key, None)

    def text(self, key: str) -> str:
        value = self._left.pop(key, None)
        if value is None or isinstance(value, str):
            return value or ""
        return str(value) if isinstance(value, _NUMBERS) and not isinstance(value, bool) else ""

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of strings."""
        value = self._left.pop(key, None)
        return tuple(map(str, value)) if isinstance(value, list | tuple) else ()

    def texts_by_name(self, key: str) -> dict[str, str]:
        """An object whose values are strings."""
        value = self._left.pop(key, None)
        return {str(name): str(text) for name, text in value.items()} if isinstance(value, dict) else {}

    def flag(self, key: str) -> bool:
        return self._left.pop(key, None) is True

    def count(self, key: str, default: int = 0) -> int:
        value = self._left.pop(key, None)
        return value if isinstance(value, int) and not isinstance(value, bool) else default

    def number(self, key: str) -> float | None:
        """A finite number."""
        return finite(self._left.pop(key, None))

    def seconds(self, key: str) -> float:
        """Return a duration in seconds: 0.0 if it is missing or negative."""
        value = finite(self._left.pop(key, None))
        return value if value is not None and value > 0 else 0.0

    def inner(self, key: str) -> Fields:
        """An object in this one."""
        return Fields(self._left.pop(key, None))

    def inners(self, key: str) -> list[Fields]:
        """A list of objects in this one."""
        value = self._left.pop(key, None)
        return [Fields(each) for each in value] if isinstance(value, list | tuple) else []


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
