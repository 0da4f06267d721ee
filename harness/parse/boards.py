"""boards.yaml: which machines there are. Text in, Boards out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import quote

from harness.errors import UserError
from harness.model import board as model
from harness.parse import board_shapes as shapes
from harness.parse import document

Lookup = Callable[[str], str]

# Keys of console and power whose values are no secrets, wherever they come from: messages have to name them.
_PLAIN = {"device", "host", "user", "pdu", "outlet", "key", "host_key", "address", "gateway"}
_FROM_OUTSIDE = re.compile(r"\$\{([^{}]+)\}")


def parse_boards(text: str, *, place: str, lookup: Lookup | None = None) -> dict[str, model.Board]:
    """Every board in `text`, by name. `place` is what messages call it (the file's name). `lookup` gives the value of a
    ``${NAME}`` or ``${file:PATH}``, or raises LookupError with the reason why there is none.

    Raises UserError: one line for each wrong key or value."""
    data = document.load(text, place=place)
    if data is None:
        raise UserError(f"{place}: expected a mapping with the key `boards`, found an empty document")
    raw = document.shaped(data, shapes.Raw, place=place)
    entries = {name: _inherited(name, entry, raw.defaults, place=place) for name, entry in raw.boards.items()}
    outside = {name: _Outside(lookup or _nothing) for name in entries}
    filled = {name: outside[name].fill(entry) for name, entry in entries.items()}
    shaped = document.shaped({"boards": filled}, shapes.Boards, place=place)
    boards = {name: _board(name, entry, outside[name], place=place) for name, entry in shaped.boards.items()}
    _check_pools(boards.values(), place=place)
    return boards


def raw_schema() -> dict[str, Any]:
    """The JSON schema of the entries as pydantic tells it, for parse/boards_schema.py."""
    return shapes.Boards.model_json_schema()


def _inherited(
    name: str, entry: dict[str, Any], defaults: Mapping[str, dict[str, Any]], *, place: str
) -> dict[str, Any]:
    """`entry` laid over the defaults that its key `like` names."""
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
    """Fills one board's entry with what it takes from outside the file."""

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
        if (secret and where.rpartition(".")[2] not in _PLAIN) or name.startswith("file:"):
            self.secrets += [value, quote(value)]
        return value


def _nothing(name: str) -> str:
    raise LookupError(f"${{{name}}} has no value")


def _board(name: str, entry: shapes.Board, outside: _Outside, *, place: str) -> model.Board:
    boot = entry.boot.made()
    _check_keys(name, entry, boot, place=place)
    if isinstance(entry.boot, shapes.UbootBoot) and not outside.unset:
        _check_load(entry.boot, where=f"{place}: boards.{name}.boot")
    kconfigs = entry.kconfigs
    if kconfigs is None:
        kconfigs = ["qemu-virt.config"] if isinstance(boot, model.QemuBoot) else []
    return model.Board(
        name=name,
        description=entry.description,
        cmdline=entry.cmdline,
        pool=entry.pool,
        kconfigs=tuple(kconfigs),
        limits=model.Limits(boot=float(entry.limits.boot), silence=float(entry.limits.silence)),
        boot=boot,
        console=entry.console.made() if entry.console else None,
        power=entry.power.made() if entry.power else None,
        ssh=_ssh(entry, boot),
        labgrid=entry.labgrid.made() if entry.labgrid else None,
        unset=tuple(outside.unset),
        secrets=tuple(dict.fromkeys([*outside.secrets, *_passwords(entry)])),
    )


def _ssh(entry: shapes.Board, boot: object) -> model.Ssh | None:
    """A board that is started by its own system needs one; all of it may be its place's to tell."""
    if entry.ssh is None and entry.labgrid and isinstance(boot, model.OwnSystem):
        return shapes.Ssh.model_validate({}).made()
    return entry.ssh.made() if entry.ssh else None


def _check_keys(name: str, entry: shapes.Board, boot: object, *, place: str) -> None:
    """Which of console, power and ssh an entry has to have depends on how it boots."""
    where = f"{place}: boards.{name}"
    if entry.pool and isinstance(boot, model.QemuBoot):
        raise UserError(f"{where}.pool: belongs to boards; of QEMU's machines there are as many as -j says, remove it")
    keys = {"console": entry.console, "power": entry.power, "ssh": entry.ssh, "labgrid": entry.labgrid}
    for key, given in keys.items():
        if isinstance(boot, model.QemuBoot) and given:
            raise UserError(f"{where}.{key}: belongs to a board; QEMU has its own, remove it")
        of_place = key in ("console", "power", "ssh") and bool(entry.labgrid)
        if of_place and given and key != "ssh":
            raise UserError(f"{where}.{key}: the place that `labgrid` names has it; remove one of them")
        needed = (isinstance(boot, model.OwnSystem) if key == "ssh" else key != "labgrid") and not of_place
        if not isinstance(boot, model.QemuBoot) and needed and not given:
            raise UserError(f"{where}.{key}: expected this key, because boot.method is {entry.boot.method}; found none")
    if isinstance(boot, model.OwnSystem) and entry.ssh and not entry.ssh.host and not entry.labgrid:
        raise UserError(f"{where}.ssh.host: expected the address of the board's own system, found none")
    if isinstance(boot, model.UbootBoot) and entry.ssh:
        for key in ("user", "key", "password", "host_key"):
            if key in entry.ssh.model_fields_set:
                raise UserError(f"{where}.ssh.{key}: belongs to a board with a system of its own (boot.method: kexec, "
                                "grub or uboot-disk); remove it, the harness makes a key for every boot")  # fmt: skip


def _check_load(boot: shapes.UbootBoot, *, where: str) -> None:
    """What U-Boot loads has to lie somewhere."""
    if boot.missing:
        instead = ", or http_serve instead" if boot.load == "http" else ""
        raise UserError(
            f"{where}.{boot.missing}: expected this key{instead}, because boot.load is {boot.load}; found none"
        )


def _check_pools(boards: Iterable[model.Board], *, place: str) -> None:
    """Boards of a pool run the same kernel: what decides on that is equal. One whose values are missing here is not
    used, and not looked at."""
    first: dict[str, model.Board] = {}
    for board in boards:
        if not board.pool or board.unset:
            continue
        other = first.setdefault(board.pool, board)
        has, expected = _deciding(board), _deciding(other)
        for key in expected:
            if has.get(key, "") != expected[key]:
                raise UserError(
                    f"{place}: boards.{board.name}.{key}: expected {expected[key]!r}, as boards.{other.name} of the "
                    f"same pool {board.pool!r} has it, found {has.get(key, '')!r}; make them equal, or leave one out"
                )


def _deciding(board: model.Board) -> dict[str, str]:
    """What decides which kernel a board runs, by key."""
    return {
        "boot.method": board.boot.method,
        "boot.dtb": getattr(board.boot, "dtb", ""),
        "kconfigs": ", ".join(board.kconfigs),
        "cmdline": board.cmdline,
    }


def _passwords(entry: shapes.Board) -> list[str]:
    """Secret also where it stands in the file itself."""
    passwords = [getattr(entry.power, "password", ""), getattr(entry.ssh, "password", "")]
    return [form for password in passwords if password for form in (password, quote(password))]
