"""Parses boards.yaml, the description of the machines."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from harness.errors import UserError
from harness.model import board as model
from harness.model.boot import BootSpec
from harness.model.names import NAME_RULE, is_name
from harness.parse import board_shapes as shapes
from harness.parse import document

Lookup = Callable[[str], str]

# Keys of console and power whose values are never secret, wherever they come from: messages have to quote them.
_PLAIN = {"device", "host", "user", "pdu", "outlet", "key", "host_key", "address", "gateway"}
_FROM_OUTSIDE = re.compile(r"\$\{([^{}]+)\}")
# Keys whose values messages never show, because they are secrets or may contain some.
_HIDDEN = {"password", "url", "headers", "body"}
# Text in these keys may have several lines; `stop_keys` may be any keys.
_SEVERAL_LINES = {"description", "run", "on", "off", "body"}
_KEYS = {"stop_keys"}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_NO_CHARACTER = re.compile(r"[\x00\ud800-\udfff]")


def parse_boards(text: str, *, place: str, lookup: Lookup | None = None) -> dict[str, model.BoardEntry]:
    """Return every board's entry in `text` by name. `place`: the file's name in messages. `lookup` returns the value of
    a ``${NAME}`` or ``${file:PATH}``, or raises LookupError with the reason why there is none.

    Raises UserError: one line for each wrong key or value."""
    data = document.load(text, place=place)
    if data is None:
        raise UserError(f"{place}: expected a mapping with the key `boards`, found an empty document")
    raw = document.shaped(data, shapes.Raw, place=place, hidden=_HIDDEN)
    for name in raw.boards:
        if not is_name(name):  # it becomes a part of paths
            raise UserError(f"{place}: boards: expected names of {NAME_RULE}; found {document.found(name)}")
    entries = {name: _inherited(name, entry, raw.defaults, place=place) for name, entry in raw.boards.items()}
    outside = {name: _Outside(lookup or _nothing) for name in entries}
    filled = {name: outside[name].fill(entry) for name, entry in entries.items()}
    secrets = tuple(secret for each in outside.values() for secret in each.secrets)
    try:
        return _made(filled, entries, outside, place=place)
    except UserError as error:
        redacted = model.Access(secrets=secrets).redacted
        raise UserError(redacted(error.message), details=[redacted(line) for line in error.details]) from None


def _made(
    filled: Mapping[str, dict[str, Any]],
    raw: Mapping[str, dict[str, Any]],
    outside: Mapping[str, _Outside],
    *,
    place: str,
) -> dict[str, model.BoardEntry]:
    complaints = [line for name, entry in filled.items() for line in _controls(entry, f"boards.{name}", "")]
    if complaints:
        raise UserError(f"{place}: {complaints[0]}", details=[f"{place}: {line}" for line in complaints[1:]])
    shaped = document.shaped({"boards": filled}, shapes.Boards, place=place, hidden=_HIDDEN)
    made = {name: _entry(name, entry, outside[name], raw[name], place=place) for name, entry in shaped.boards.items()}
    _check_pools(shaped.boards, made, place=place)
    return made


def _controls(value: object, where: str, key: str) -> Iterator[str]:
    """Yield complaints about characters that a terminal, a path, a command line or a request can't have."""
    if isinstance(value, Mapping):
        for inner, each in value.items():
            name = f"{where}.{document.shown_key(inner)}"
            yield from _controls(inner, f"a key of {where}", "")
            yield from _controls(each, name, str(inner))
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from _controls(each, f"{where}.{number}", key)
    elif isinstance(value, str):
        text = re.sub(r"\r?[\n\t]", "", value) if key in _SEVERAL_LINES else value
        if found := (_NO_CHARACTER if key in _KEYS else _CONTROL).search(text):
            yield f"{where}: expected a text without control characters, found {found[0]!r} in it"


def raw_schema() -> dict[str, Any]:
    """Return pydantic's JSON schema of the entries, for parse/boards_schema.py."""
    return shapes.Boards.model_json_schema()


def _inherited(
    name: str, entry: dict[str, Any], defaults: Mapping[str, dict[str, Any]], *, place: str
) -> dict[str, Any]:
    """Return `entry` merged over the defaults that its key `like` names."""
    if "like" not in entry:
        return entry
    like = entry["like"]
    if not isinstance(like, str) or like not in defaults:
        known = ", ".join(sorted(defaults)) or "none there"
        raise UserError(f"{place}: boards.{name}.like: expected a key of `defaults` ({known}), found {like!r}")
    own = {key: value for key, value in entry.items() if key != "like"}
    return _laid_over(own, defaults[like])


def _laid_over(upper: Mapping[str, Any], lower: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(lower)
    for key, value in upper.items():
        below = merged.get(key)
        both = isinstance(value, Mapping) and isinstance(below, Mapping)
        merged[key] = _laid_over(value, below) if both and below is not None else value
    return merged


class _Outside:
    """Fills in the values that one board's entry takes from outside the file."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self.unset: list[str] = []
        self.secrets: list[str] = []

    def fill(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        return {
            key: self._filled(value, key, secret=key in ("console", "power", "ssh")) for key, value in entry.items()
        }

    def _filled(self, value: Any, where: str, *, secret: bool) -> Any:
        if isinstance(value, str):
            whole = _FROM_OUTSIDE.fullmatch(value)
            if whole:
                return self._value(whole[1], where, secret=secret)
            return _FROM_OUTSIDE.sub(lambda found: self._value(found[1], where, secret=secret), value)
        if isinstance(value, list):
            return [self._filled(item, where, secret=secret) for item in value]
        if isinstance(value, dict):
            return {key: self._filled(item, f"{where}.{key}", secret=secret) for key, item in value.items()}
        return value

    def _value(self, name: str, where: str, *, secret: bool) -> document.Outside:
        name, has_default, default = name.partition(":-")
        try:
            value = document.Outside(self._lookup(name))
        except LookupError as error:
            if has_default:
                return document.Outside(default)
            self.unset.append(f"{where}: {error.args[0]}")
            value = document.Outside("unset")
            value.is_missing = True
            return value
        if where == "boot.stop_keys":  # may be a password, which comes back as an echo
            value.is_secret = True
            self.secrets.append(value.strip())
        if (secret and where.rpartition(".")[2] not in _PLAIN) or name.startswith("file:"):
            value.is_secret = True
            self.secrets.append(value)
        return value


def _nothing(name: str) -> str:
    raise LookupError(f"${{{name}}} has no value")


def _entry(
    name: str, entry: shapes.Board, outside: _Outside, raw: Mapping[str, Any], *, place: str
) -> model.BoardEntry:
    _check_keys(name, entry, place=place)
    if not outside.unset and (lacking := entry.boot.lacks()):
        key, expected = lacking
        raise UserError(f"{place}: boards.{name}.boot.{key}: {expected}")
    boot = entry.boot.made()
    access = model.Access(
        console=_masked_console(entry.console.made(), raw["console"]) if entry.console else None,
        power=_masked_power(entry.power.made(), raw["power"]) if entry.power else None,
        ssh=_ssh(entry, boot),
        secrets=tuple(dict.fromkeys([*outside.secrets, *_passwords(entry)])),
    )
    board = model.BoardSpec(
        name=name,
        description=entry.description,
        cmdline=entry.cmdline,
        pool=entry.pool,
        kconfigs=entry.fragments,
        limits=model.Limits(boot=float(entry.limits.boot), silence=float(entry.limits.silence)),
        boot=boot,
        access=access,
        labgrid=entry.labgrid.made() if entry.labgrid else None,
    )
    return model.BoardEntry(board=board, unset=tuple(outside.unset))


def _masked_console(console: model.ConsoleSpec, raw: Mapping[str, Any]) -> model.ConsoleSpec:
    if isinstance(console, model.CommandConsole):
        return dataclasses.replace(console, masked=_masked(raw["run"]))
    return console


def _masked_power(power: model.Power, raw: Mapping[str, Any]) -> model.Power:
    if isinstance(power.switch, model.CommandSwitch):
        masked = dataclasses.replace(power.switch, masked_on=_masked(raw["on"]), masked_off=_masked(raw["off"]))
        return dataclasses.replace(power, switch=masked)
    return power


def _masked(command: Any) -> tuple[str, ...]:
    """Return a command as boards.yaml has it, with *** for what comes from outside: this hides a value of any length,
    and nothing else. Empty if nothing comes from outside."""
    words = shapes.argv(command)
    masked = tuple(_FROM_OUTSIDE.sub("***", word) for word in words)
    return () if masked == words else masked


def _ssh(entry: shapes.Board, boot: BootSpec) -> model.Ssh | None:
    """A board that is started by its own system needs one; all of it may be its place's to tell."""
    if entry.ssh is None and entry.labgrid and boot.has_own_system:
        return shapes.Ssh.model_validate({}).made()
    return entry.ssh.made() if entry.ssh else None


def _check_keys(name: str, entry: shapes.Board, *, place: str) -> None:
    """Which keys an entry has to have beside `boot`, and which it must not have, its boot method says."""
    where, boot = f"{place}: boards.{name}", entry.boot
    for key, why in boot.refuses.items():
        if entry.was_given(key):
            raise UserError(f"{where}.{key}: {why}")
    if entry.labgrid:
        for key in ("console", "power"):
            if entry.has(key):
                raise UserError(f"{where}.{key}: the place that `labgrid` names provides it; remove one of them")
        return
    for key, expected in boot.requires.items():
        if not entry.has(key):
            told = expected or f"expected this key, because boot.method is {boot.method}; found none"
            raise UserError(f"{where}.{key}: {told}")


def _check_pools(shaped: Mapping[str, shapes.Board], entries: Mapping[str, model.BoardEntry], *, place: str) -> None:
    """Check that boards of a pool run the same kernel: the keys that decide that have to be equal. A board whose values
    are missing here is not used, and not checked."""
    first: dict[str, str] = {}
    for name, entry in shaped.items():
        if not entry.pool or entries[name].unset:
            continue
        other = first.setdefault(entry.pool, name)
        has, expected = _deciding(entry), _deciding(shaped[other])
        for key in expected:
            if has.get(key, "") != expected[key]:
                raise UserError(
                    f"{place}: boards.{name}.{key}: expected {expected[key]!r}, as boards.{other} of the "
                    f"same pool {entry.pool!r} has it, found {has.get(key, '')!r}; make them equal, or leave one out"
                )


def _deciding(entry: shapes.Board) -> dict[str, str]:
    """Return the values that decide which kernel a board runs, by key."""
    boot = {f"boot.{key}": getattr(entry.boot, key) for key in entry.boot.same_in_pool}
    return {**boot, "kconfigs": ", ".join(entry.fragments), "cmdline": entry.cmdline}


def _passwords(entry: shapes.Board) -> list[str]:
    """Return the entry's passwords, which are secret even if the file itself contains them."""
    passwords = [getattr(entry.power, "password", ""), getattr(entry.ssh, "password", "")]
    return [password for password in passwords if password]
