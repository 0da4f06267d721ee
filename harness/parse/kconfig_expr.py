"""Expressions of the kernel's Kconfig language: read, shown and evaluated against a ``.config``.

Values are kconfig's tristate as numbers: 0 (n), 1 (m), 2 (y). A macro call (``$(cc-option,…)``) is something only
kbuild can answer: it, and what depends on it, evaluates to None.
See Documentation/kbuild/kconfig-language.rst.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

TRISTATE = {"n": 0, "m": 1, "y": 2}

_TOKEN = re.compile(r"""\s*(?:(&&|\|\||!=|<=|>=|[!=<>()])|"((?:[^"\\]|\\.)*)"|'([^']*)'|([\w./-]+))""")
_NUMBER = re.compile(r"-?(?:0[xX][0-9a-fA-F]{1,40}|\d{1,40})")
_DECIMAL = re.compile(r"-?\d+")
_HEX = re.compile(r"[0-9a-fA-F]{1,40}")
_MOST_NESTED = 16  # parentheses and negations within one another; a kernel has four
_COMPARISONS = ("=", "!=", "<", "<=", ">", ">=")


@dataclass(frozen=True, slots=True)
class Symbol:
    """A symbol, by its name without ``CONFIG_``."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant: ``y``, ``m``, ``n``, a number or a string."""

    text: str

    def __str__(self) -> str:
        return self.text if self.text in TRISTATE or _NUMBER.fullmatch(self.text) else f'"{self.text}"'


@dataclass(frozen=True, slots=True)
class Macro:
    """A macro call, or text this parser can't read: unknown either way."""

    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Not:
    operand: Expr

    def __str__(self) -> str:
        return f"!({self.operand})" if isinstance(self.operand, And | Or | Compare) else f"!{self.operand}"


@dataclass(frozen=True, slots=True)
class And:
    left: Expr
    right: Expr

    def __str__(self) -> str:
        return " && ".join(f"({side})" if isinstance(side, Or) else str(side) for side in (self.left, self.right))


@dataclass(frozen=True, slots=True)
class Or:
    left: Expr
    right: Expr

    def __str__(self) -> str:
        return f"{self.left} || {self.right}"


@dataclass(frozen=True, slots=True)
class Compare:
    """``left operator right``: as numbers where both are, else as text."""

    operator: str
    left: Symbol | Literal | Macro
    right: Symbol | Literal | Macro

    def __str__(self) -> str:
        return f"{self.left} {self.operator} {self.right}"


Expr = Symbol | Literal | Macro | Not | And | Or | Compare

YES = Literal("y")
MODULE = Literal("m")


@lru_cache(maxsize=65536)
def parse_expr(text: str) -> Expr:
    """The expression that `text` holds; a Macro of the whole text where it can't be read."""
    tokens = _tokenize(text)
    if tokens is None:
        return Macro(text.strip())
    try:
        expr, rest = _parse_or(tokens, 0)
    except (IndexError, ValueError):
        return Macro(text.strip())
    return expr if rest == len(tokens) else Macro(text.strip())


def conjunction(exprs: list[Expr]) -> Expr:
    """All of them at once; ``y`` for none."""
    return _joined(And, [expr for expr in exprs if expr != YES] or [YES])


def _joined(kind: type[And | Or], operands: list[Expr]) -> Expr:
    """Operands between equal operators, as a tree of little depth: whoever walks it calls itself for each level."""
    while len(operands) > 1:
        pairs = [operands[at : at + 2] for at in range(0, len(operands), 2)]
        operands = [kind(*pair) if len(pair) == 2 else pair[0] for pair in pairs]
    return operands[0]


def symbols_in(expr: Expr) -> Iterator[str]:
    """The names of all symbols in `expr`."""
    if isinstance(expr, Symbol):
        yield expr.name
    elif isinstance(expr, Not):
        yield from symbols_in(expr.operand)
    elif isinstance(expr, And | Or | Compare):
        yield from symbols_in(expr.left)
        yield from symbols_in(expr.right)


def has_macro(expr: Expr) -> bool:
    """Whether the value of `expr` may hang on a macro call."""
    if isinstance(expr, Not):
        return has_macro(expr.operand)
    if isinstance(expr, And | Or | Compare):
        return has_macro(expr.left) or has_macro(expr.right)
    return isinstance(expr, Macro)


def evaluate(expr: Expr, config: Mapping[str, str], *, macro: int | None = None) -> int | None:
    """0, 1 or 2 as `config` makes it; `macro` is the value that macro calls are taken to have."""
    if isinstance(expr, Symbol):
        return TRISTATE.get(config.get(expr.name, "n"), 0)
    if isinstance(expr, Literal):
        # Kconfig reads a lone m as m && MODULES.
        return TRISTATE.get(expr.text, 0) if expr != MODULE or "MODULES" in config else 0
    if isinstance(expr, Macro):
        return macro
    if isinstance(expr, Compare):
        return _compare(expr, config, macro=macro)
    if isinstance(expr, Not):
        value = evaluate(expr.operand, config, macro=macro)
        return None if value is None else 2 - value
    left, right = (evaluate(side, config, macro=macro) for side in (expr.left, expr.right))
    if isinstance(expr, And):
        if left == 0 or right == 0:
            return 0
        return None if left is None or right is None else min(left, right)
    if left == 2 or right == 2:
        return 2
    return None if left is None or right is None else max(left, right)


def false_terms(expr: Expr, config: Mapping[str, str], *, need: int = 1) -> list[Expr]:
    """The terms of `expr`, taken apart at its ``&&``, that `config` leaves below `need`; unknown ones excepted."""
    if isinstance(expr, And):
        return [term for side in (expr.left, expr.right) for term in false_terms(side, config, need=need)]
    value = evaluate(expr, config)
    return [expr] if value is not None and value < need else []


def macro_terms(expr: Expr, config: Mapping[str, str]) -> list[Expr]:
    """The terms of `expr`, taken apart at its ``&&``, whose value only kbuild knows."""
    if isinstance(expr, And):
        return [*macro_terms(expr.left, config), *macro_terms(expr.right, config)]
    return [expr] if evaluate(expr, config) is None else []


def _compare(expr: Compare, config: Mapping[str, str], *, macro: int | None) -> int | None:
    if isinstance(expr.left, Macro) or isinstance(expr.right, Macro):
        return macro
    left, right = (_text_of(side, config) for side in (expr.left, expr.right))
    # An unset symbol reads as n beside a tristate constant, as an empty string beside any other.
    left = left if left is not None else ("n" if right in TRISTATE else "")
    right = right if right is not None else ("n" if left in TRISTATE else "")
    one, other = _number(left), _number(right)
    if one is not None and other is not None and (_NUMBER.fullmatch(left) or _NUMBER.fullmatch(right)):
        order = _sign(one - other)
    else:
        order = (left > right) - (left < right)
    accepted = {"=": (0,), "!=": (-1, 1), "<": (-1,), "<=": (-1, 0), ">": (1,), ">=": (0, 1)}[expr.operator]
    return 2 if order in accepted else 0


def _text_of(side: Symbol | Literal | Macro, config: Mapping[str, str]) -> str | None:
    return config.get(side.name) if isinstance(side, Symbol) else side.text


def _sign(number: int) -> int:
    return (number > 0) - (number < 0)


def _number(text: str) -> int | None:
    """The value of what may be a number; that of a hex symbol may lack its 0x."""
    if not (_NUMBER.fullmatch(text) or _HEX.fullmatch(text)):
        return None
    return int(text, 10 if _DECIMAL.fullmatch(text) else 16)


def _tokenize(text: str) -> list[str | Symbol | Literal | Macro] | None:
    """Operators as text, operands as expressions; None for something unreadable."""
    tokens: list[str | Symbol | Literal | Macro] = []
    position, text = 0, text.strip()
    while position < len(text):
        if text[position] == "$":
            end = _macro_end(text, position)
            tokens.append(Macro(text[position:end]))
            position = end
        elif match := _TOKEN.match(text, position):
            tokens.append(_token(match))
            position = match.end()
        else:
            return None
        while position < len(text) and text[position].isspace():
            position += 1
    return tokens


def _token(match: re.Match[str]) -> str | Symbol | Literal | Macro:
    operator, double, single, word = match.groups()
    if operator is not None:
        return str(operator)
    if word is None:
        string = double if double is not None else single
        return Macro(f'"{string}"') if "$(" in string else Literal(string)
    return Literal(word) if word in TRISTATE or _NUMBER.fullmatch(word) else Symbol(word)


def _macro_end(text: str, start: int) -> int:
    """Index behind the macro call that begins at `start`: its parentheses balance, or it takes the rest."""
    depth = 0
    for index in range(start + 1, len(text)):
        depth += {"(": 1, ")": -1}.get(text[index], 0)
        if depth == 0:
            return index + 1
    return len(text)


_Tokens = list[str | Symbol | Literal | Macro]


def _parse_or(tokens: _Tokens, at: int, nested: int = 0) -> tuple[Expr, int]:
    first, at = _parse_and(tokens, at, nested)
    operands = [first]
    while at < len(tokens) and tokens[at] == "||":
        operand, at = _parse_and(tokens, at + 1, nested)
        operands.append(operand)
    return _joined(Or, operands), at


def _parse_and(tokens: _Tokens, at: int, nested: int) -> tuple[Expr, int]:
    first, at = _parse_term(tokens, at, nested)
    operands = [first]
    while at < len(tokens) and tokens[at] == "&&":
        operand, at = _parse_term(tokens, at + 1, nested)
        operands.append(operand)
    return _joined(And, operands), at


def _parse_term(tokens: _Tokens, at: int, nested: int) -> tuple[Expr, int]:
    token = tokens[at]
    if nested > _MOST_NESTED:
        raise ValueError("too deep")
    if token == "!":
        operand, at = _parse_term(tokens, at + 1, nested + 1)
        return Not(operand), at
    if token == "(":
        inner, at = _parse_or(tokens, at + 1, nested + 1)
        if tokens[at] != ")":
            raise ValueError("unbalanced")
        return inner, at + 1
    if isinstance(token, str):
        raise ValueError(f"operator {token} where an operand belongs")
    if at + 1 < len(tokens) and tokens[at + 1] in _COMPARISONS:
        right = tokens[at + 2]
        if isinstance(right, str):
            raise ValueError(f"operator {right} where an operand belongs")
        return Compare(str(tokens[at + 1]), token, right), at + 3
    return token, at + 1
