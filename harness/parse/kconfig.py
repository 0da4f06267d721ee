"""Parses Kconfig fragments and a final .config, and merges fragments.

A fragment is a ``.config`` in part: ``CONFIG_X=y`` (or ``m``, ``n``, a number, a quoted string),
``# CONFIG_X is not set`` (at the start of a line; ``#CONFIG_X is not set`` is a comment, as for kconfig), comments and
blank lines. A comment behind a value may mark a wish rather than a demand, with the reason::

    CONFIG_LIVEPATCH=y  # if-available: arm64 has it from 7.0 on

or a demand on older kernels only, up to and including the named version::

    CONFIG_RANDOMIZE_BASE=y  # until 6.4: modules get no PLT entries without

A wish that the kernel cannot fulfil, because it does not know the symbol or no arm64 configuration of it can
have it, is noted; a demand that is not met stops the build.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from harness.errors import UserError

_UNSET = re.compile(r"# CONFIG_(\w+) is not set\s*$")
_SET = re.compile(r"CONFIG_(\w+)=(.*)$")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"\s*(.*)$')
_NUMBER = re.compile(r"-?\d{1,40}|(?:0[xX])?[0-9a-fA-F]{1,40}")  # of a hex symbol also without 0x
_DECIMAL = re.compile(r"-?\d+")
_MARK = re.compile(r"#\s*if-available\s*:\s*(.*\S)\s*$")
_UNTIL = re.compile(r"#\s*until\s+(\d{1,4})\.(\d{1,4})\s*:\s*(.*\S)\s*$")
_LOOKS_MARKED = re.compile(r"#\s*(if[-_ ]?available|until\b)", re.IGNORECASE)
_ESCAPE = re.compile(r"\\(.)")

EXPECTED = 'CONFIG_<NAME>= followed by y, m, n, a number or a "string"; "# CONFIG_<NAME> is not set"; or a comment'


@dataclass(frozen=True, kw_only=True)
class Request:
    """One requested symbol.

    `symbol`: without ``CONFIG_``. `value`: ``y``, ``m``, ``n``, a number, or a string without its quotes (then
    `is_string`). `place`: ``file:line``. `if_available`: a wish, with its `reason`. `until`: the last kernel version
    that it applies to."""

    symbol: str
    value: str
    place: str
    is_string: bool = False
    if_available: bool = False
    reason: str = ""
    until: tuple[int, int] | None = None

    @property
    def assignment(self) -> str:
        """The request as ``.config`` spells it."""
        if self.is_string:
            escaped = self.value.replace("\\", "\\\\").replace('"', '\\"')
            return f'CONFIG_{self.symbol}="{escaped}"'
        return f"# CONFIG_{self.symbol} is not set" if self.value == "n" else f"CONFIG_{self.symbol}={self.value}"


@dataclass(frozen=True, kw_only=True)
class Fragment:
    """A parsed fragment; `name`: its file in messages."""

    name: str
    requests: tuple[Request, ...]


def parse_fragment(text: str, *, name: str, if_available: str | None = None) -> Fragment:
    """Parse a fragment.

    With `if_available` every request is a wish with that reason (the selftests' own config files, which do not
    know about one another's architectures). Raises UserError with place, expectation and finding.
    """
    requests: dict[str, Request] = {}
    for number, line in enumerate(lines_of(text), start=1):
        request = _parse_line(line, place=f"{name}:{number}")
        if request is None:
            continue
        if if_available is not None:
            request = replace(request, if_available=True, reason=request.reason or if_available)
        earlier = requests.get(request.symbol)
        if earlier is not None and earlier.value != request.value:
            raise UserError(
                f"{request.place}: CONFIG_{request.symbol}: expected one value in a file, "
                f"found {request.value!r} here and {earlier.value!r} at {earlier.place}"
            )
        requests[request.symbol] = request
    return Fragment(name=name, requests=tuple(requests.values()))


def _parse_line(line: str, *, place: str) -> Request | None:
    """The request of one line; None for a blank line or a comment."""
    if unset := _UNSET.match(line):
        return Request(symbol=unset[1], value="n", place=place)
    line = line.strip()
    if not line or line.startswith("#"):
        return None
    assignment = _SET.match(line)
    if assignment is None:
        raise UserError(f"{place}: expected {EXPECTED}, found {line[:200]!r}")
    symbol, rest = assignment.groups()
    value, is_string, comment = _split_value(rest, place=place, symbol=symbol)
    mark, until = _MARK.match(comment), _UNTIL.match(comment)
    if mark is None and until is None and _LOOKS_MARKED.match(comment):
        wanted = "'# if-available: <why>' or '# until <version>: <why>'"
        raise UserError(f"{place}: CONFIG_{symbol}: expected {wanted}, found {comment[:200]!r}")
    return Request(
        symbol=symbol,
        value=value,
        place=place,
        is_string=is_string,
        if_available=mark is not None,
        reason=mark[1] if mark else until[3] if until else "",
        until=(int(until[1]), int(until[2])) if until else None,
    )


def _split_value(rest: str, *, place: str, symbol: str) -> tuple[str, bool, str]:
    """(value, is a string, comment) of what stands behind the ``=``."""
    if quoted := _QUOTED.match(rest):
        value, is_string, comment = _ESCAPE.sub(r"\1", quoted[1]), True, quoted[2]
    else:
        plain, hash_sign, behind = rest.partition("#")
        value, is_string, comment = plain.strip(), False, hash_sign + behind
    good, found = is_string or value in ("y", "m", "n") or _NUMBER.fullmatch(value), rest.strip()[:200]
    if not good or (comment and not comment.startswith("#")):
        raise UserError(f'{place}: CONFIG_{symbol}: expected y, m, n, a number or a "string", found {found!r}')
    return value, is_string, comment


def lines_of(text: str) -> list[str]:
    """The lines as kconfig's programs read them: they end at LF, or at CR LF, and nowhere else. (`str.splitlines` also
    cuts at form feeds, which a string may hold.)"""
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]


def merge(fragments: Iterable[Fragment], *, version: tuple[int, int] | None = None) -> dict[str, Request]:
    """All requests by symbol of a kernel of this version; the later one wins. A wish for the value that is asked for
    already changes nothing: it does not soften a demand, and the first wish has the better reason."""
    merged: dict[str, Request] = {}
    for fragment in fragments:
        for request in fragment.requests:
            if version and request.until and version > request.until:
                continue
            earlier = merged.get(request.symbol)
            if earlier is None or not request.if_available or earlier.value != request.value:
                merged[request.symbol] = request
    return merged


def render(requests: Mapping[str, Request]) -> str:
    """A file for KCONFIG_ALLCONFIG: one assignment a line, nothing else."""
    return "".join(f"{request.assignment}\n" for request in requests.values())


def parse_dotconfig(text: str) -> dict[str, str]:
    """Symbol to value for every symbol that a ``.config`` sets; strings without quotes and escapes."""
    config: dict[str, str] = {}
    for line in lines_of(text):
        assignment = _SET.match(line)
        if assignment is None:
            continue
        symbol, value = assignment.groups()
        quoted = _QUOTED.match(value)
        if quoted:
            config[symbol] = _ESCAPE.sub(r"\1", quoted[1])
        elif value != "n":
            config[symbol] = value
    return config


def unsatisfied(requests: Mapping[str, Request], config: Mapping[str, str]) -> list[Request]:
    """Return the requests that a final configuration does not meet, in order.

    ``n`` is met by absence. ``y`` is met by ``y`` only. ``m`` is met by ``m``; by ``y`` for a wish only: who
    demands a module means to load it.
    """
    return [request for request in requests.values() if not is_met(request, config)]


def is_met(request: Request, config: Mapping[str, str]) -> bool:
    """Whether a final configuration meets this request."""
    actual = config.get(request.symbol)
    if actual is None:
        return request.value == "n" and not request.is_string
    if request.value == actual:
        return True
    if request.value == "m" and actual == "y":
        return request.if_available
    return _same_number(request.value, actual)


def _same_number(one: str, other: str) -> bool:
    if not (_NUMBER.fullmatch(one) and _NUMBER.fullmatch(other)):
        return False
    # A symbol is int or hex, and kconfig reads all that a hex one is given in base 16.
    base = 10 if _DECIMAL.fullmatch(one) and _DECIMAL.fullmatch(other) else 16
    return int(one, base) == int(other, base)
