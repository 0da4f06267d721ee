"""The kernel's Kconfig files, read far enough to tell what a symbol depends on.

Reads every file that ``source`` leads to for one architecture. Help texts, ranges and keywords this parser does
not know are passed over, so that a newer kernel's language still reads.
See Documentation/kbuild/kconfig-language.rst.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from harness.limits import KCONFIG_LINES, KCONFIG_NESTED
from harness.parse.kconfig import lines_of
from harness.parse.kconfig_expr import YES, Expr, Not, Or, conjunction, parse_expr

Read = Callable[[str], str | None]
"""Text of a file by its path below the tree's top; None where there is no such file."""

TYPES = ("bool", "tristate", "string", "int", "hex")

_STATEMENT = re.compile(r"([A-Za-z_-]+)\b\s*(.*)$")
# A string that nobody closes ends with its line, as for kconfig.
_MASKED = re.compile(r"""\$\((?:[^()]|\([^()]*\))*\)|"(?:[^"\\]|\\.)*+(?:"|\\?$)|'[^']*(?:'|$)""")
_STRING = re.compile(r"""\s*(?:"((?:[^"\\]|\\.)*)"|'([^']*)')\s*(.*)$""")
_HELP = ("help", "---help---")
_ENDS = ("endif", "endmenu", "endchoice")


@dataclass(frozen=True, kw_only=True)
class Value:
    """A ``default`` or the value of a ``def_bool``: `value` where `condition` holds."""

    value: Expr
    condition: Expr


@dataclass(frozen=True, kw_only=True)
class Definition:
    """One ``config`` entry.

    `depends` has what its enclosing ``if``, ``menu`` and ``choice`` ask for, too. `visible`: when its prompt is
    offered (None: it has no prompt). `selects`: (symbol, condition), `implies` alike. `choice`: place of the
    choice it is a member of.
    """

    symbol: str
    place: str
    type: str | None = None
    prompt: str | None = None
    visible: Expr | None = None
    depends: Expr = YES
    defaults: tuple[Value, ...] = ()
    selects: tuple[tuple[str, Expr], ...] = ()
    implies: tuple[tuple[str, Expr], ...] = ()
    choice: str | None = None


@dataclass(frozen=True, kw_only=True)
class Kconfig:
    """All definitions of one architecture, by symbol."""

    symbols: dict[str, tuple[Definition, ...]]

    @property
    def definitions(self) -> Iterator[Definition]:
        """Each of them."""
        for definitions in self.symbols.values():
            yield from definitions


def parse_kconfig(read: Read, *, srcarch: str = "arm64", root: str = "Kconfig") -> Kconfig:
    """Read `root` and every file it leads to; ``$(SRCARCH)`` in their names is `srcarch`. Raises UserError if they are
    above a limit."""
    parser = _Parser(read=read, srcarch=srcarch)
    parser.file(root)
    parser.close_entry()
    symbols: dict[str, list[Definition]] = {}
    for definition in parser.definitions:
        symbols.setdefault(definition.symbol, []).append(definition)
    return Kconfig(symbols={name: tuple(found) for name, found in symbols.items()})


@dataclass(kw_only=True)
class _Scope:
    """An open ``if``, ``menu`` or ``choice``: what it asks of everything inside."""

    depends: list[Expr] = field(default_factory=list)
    visible: list[Expr] = field(default_factory=list)
    choice: str | None = None


@dataclass(kw_only=True)
class _Entry:
    """A ``config`` entry being read."""

    symbol: str
    place: str
    type: str | None = None
    prompt: str | None = None
    prompt_condition: Expr = YES
    depends: list[Expr] = field(default_factory=list)
    defaults: list[Value] = field(default_factory=list)
    selects: list[tuple[str, Expr]] = field(default_factory=list)
    implies: list[tuple[str, Expr]] = field(default_factory=list)


class _Parser:
    """Line by line through all files; `definitions` is the harvest."""

    def __init__(self, *, read: Read, srcarch: str) -> None:
        self.definitions: list[Definition] = []
        self._read = read
        self._srcarch = srcarch
        self._scopes: list[_Scope] = []
        self._entry: _Entry | None = None
        self._takes_attributes: _Scope | None = None
        self._open_files: list[str] = []
        self._lines = 0

    def file(self, path: str) -> None:
        """Read one file in the scope that is open; nothing where it does not exist or is open already."""
        text = self._read(path) if path not in self._open_files else None
        if text is None:
            return
        self._open_files.append(path)
        KCONFIG_NESTED.check(len(self._open_files), place=path)
        self._lines += text.count("\n") + 1  # again where a file is read again
        KCONFIG_LINES.check(self._lines, place=path)
        for number, keyword, rest in _statements(text):
            self._statement(keyword, rest, place=f"{path}:{number}")
        self._open_files.pop()

    def close_entry(self) -> None:
        """Finish the entry being read, if any."""
        entry, self._entry, self._takes_attributes = self._entry, None, None
        if entry is None:
            return
        hidden_by = [expr for scope in self._scopes for expr in scope.visible]
        self.definitions.append(
            Definition(
                symbol=entry.symbol,
                place=entry.place,
                type=entry.type,
                prompt=entry.prompt,
                visible=None if entry.prompt is None else conjunction([entry.prompt_condition, *hidden_by]),
                depends=conjunction([expr for scope in self._scopes for expr in scope.depends] + entry.depends),
                defaults=tuple(entry.defaults),
                selects=tuple(entry.selects),
                implies=tuple(entry.implies),
                choice=next((scope.choice for scope in reversed(self._scopes) if scope.choice), None),
            )
        )

    def _statement(self, keyword: str, rest: str, *, place: str) -> None:
        if keyword in ("config", "menuconfig"):
            self.close_entry()
            self._entry = _Entry(symbol=rest.strip().strip('"'), place=place)
        elif keyword in ("if", "menu", "choice"):
            self.close_entry()
            self._open_scope(keyword, rest, place=place)
        elif keyword in _ENDS:
            self.close_entry()
            if self._scopes:
                self._scopes.pop()
        elif keyword == "source":
            self.close_entry()
            self.file(_unquote(rest).replace("$(SRCARCH)", self._srcarch).replace("$SRCARCH", self._srcarch))
        elif keyword in ("comment", "mainmenu"):
            self.close_entry()
        elif self._entry is not None:
            _attribute(self._entry, keyword, rest)
        elif self._takes_attributes is not None:
            _scope_attribute(self._takes_attributes, keyword, rest)

    def _open_scope(self, keyword: str, rest: str, *, place: str) -> None:
        scope = _Scope(choice=place if keyword == "choice" else None)
        if keyword == "if":
            scope.depends.append(parse_expr(rest))
        else:
            self._takes_attributes = scope
        self._scopes.append(scope)
        KCONFIG_NESTED.check(len(self._scopes), place=place)


def _attribute(entry: _Entry, keyword: str, rest: str) -> None:
    """Take one attribute line of a ``config`` entry; unknown ones are passed over."""
    if keyword in TYPES or keyword == "prompt":
        entry.type = keyword if keyword in TYPES else entry.type
        if match := _STRING.match(rest):
            entry.prompt = match[1] if match[1] is not None else match[2]
            entry.prompt_condition = _split_if(match[3])[1]
    elif keyword in ("default", "def_bool", "def_tristate"):
        entry.type = keyword.removeprefix("def_") if keyword != "default" else entry.type
        value, condition = _split_if(rest)
        entry.defaults.append(Value(value=parse_expr(value), condition=condition))
    elif keyword == "depends":
        entry.depends.append(_dependency(rest))
    elif keyword in ("select", "imply"):
        target, condition = _split_if(rest)
        (entry.selects if keyword == "select" else entry.implies).append((target, condition))


def _scope_attribute(scope: _Scope, keyword: str, rest: str) -> None:
    if keyword == "depends":
        scope.depends.append(_dependency(rest))
    elif keyword == "visible":
        scope.visible.append(parse_expr(rest.removeprefix("if")))
    elif keyword in (*TYPES, "prompt") and scope.choice and (match := _STRING.match(rest)):
        scope.visible.append(_split_if(match[3])[1])


def _dependency(rest: str) -> Expr:
    """``on A``, or ``on A if B`` (newer kernels): A, where B holds."""
    wanted, condition = _split_if(rest.removeprefix("on"))
    needed = parse_expr(wanted)
    return needed if condition == YES else Or(Not(condition), needed)


def _split_if(text: str) -> tuple[str, Expr]:
    """(what stands before ``if``, the condition behind it); the condition is ``y`` where there is none."""
    match = re.search(r"(?:^|\s|\)|\")if\b", _mask(text))
    if match is None:
        return text.strip(), YES
    return text[: match.end() - 2].strip(), parse_expr(text[match.end() :])


def _mask(text: str) -> str:
    """`text` with the inside of strings and macro calls blanked, so that only the language itself is left."""
    if '"' not in text and "'" not in text and "$" not in text:
        return text
    return _MASKED.sub(lambda match: '"' + "_" * (len(match[0]) - 2) + '"', text)


def _unquote(text: str) -> str:
    match = _STRING.match(text)
    if match is None:
        return text.strip()
    return str(match[1] if match[1] is not None else match[2])


def _statements(text: str) -> Iterator[tuple[int, str, str]]:
    """(line number, keyword, the rest) of every statement; comments and help texts are left out."""
    lines = lines_of(text)
    at = 0
    while at < len(lines):
        number, line = at + 1, lines[at]
        at += 1
        if line.endswith("\\"):
            parts = []
            while line.endswith("\\") and at < len(lines):
                parts.append(line[:-1])
                line = lines[at]
                at += 1
            line = " ".join([*parts, line])
        if "#" in line:
            line = line[: _mask(line).find("#")] if "#" in _mask(line) else line
        stripped = line.strip()
        if stripped in _HELP:
            at = _behind_help(lines, at)
        elif match := _STATEMENT.match(stripped):
            yield number, match[1], match[2]


def _behind_help(lines: list[str], at: int) -> int:
    """Index of the first line behind a help text: it ends where the indentation gets less than its first line's."""
    depth: int | None = None
    for index in range(at, len(lines)):
        expanded = lines[index].expandtabs(8)
        body = expanded.lstrip()
        if not body:
            continue
        indent = len(expanded) - len(body)
        if indent == 0 or (depth is not None and indent < depth):
            return index
        depth = indent if depth is None else depth
    return len(lines)
