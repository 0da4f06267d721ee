"""Which symbols some configuration of an architecture can have."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from harness.limits import KCONFIG_PASSES
from harness.parse.kconfig_expr import (
    MODULE,
    TRISTATE,
    And,
    Compare,
    Expr,
    Literal,
    Macro,
    Not,
    Or,
    Symbol,
    conjunction,
    evaluate,
    has_macro,
    symbols_in,
)
from harness.parse.kconfig_lang import Definition, Kconfig

_BUILD_ONLY = "COMPILE_TEST"
"""Lets code compile that is BROKEN or another machine's; no way to a kernel that boots."""


class Reach:
    """Which symbols some configuration of this architecture can set.

    Judged generously, each dependency by itself: a symbol counts as out of reach only where its dependencies, its
    defaults and all that could select it are out of reach too. What macro calls answer (the compiler's and the
    linker's abilities) is read off the final configuration where that shows it; with `any_toolchain` it is taken
    to be yes. Symbols that are `held` keep the value that the final configuration gives them. `possible`: the names.
    """

    def __init__(
        self,
        kconfig: Kconfig,
        config: Mapping[str, str],
        *,
        any_toolchain: bool = False,
        held: frozenset[str] = frozenset(),
    ) -> None:
        self._any_toolchain = any_toolchain
        self._held = held
        on = held & config.keys()
        self._taken = {definition.choice for name in on for definition in kconfig.symbols.get(name, ())}
        self._kconfig = kconfig
        self._config = config
        self.possible: set[str] = set(config)
        self._always: set[str] = set(on)
        self._grow(self._always, self._is_always)
        self._grow(self.possible, self._is_possible)

    def _grow(self, reached: set[str], test: Callable[[Definition], Iterable[str]]) -> None:
        """Add to `reached` what `test` tells of each definition, until nothing is added."""
        before, passes = -1, 0
        while before != len(reached):
            before = len(reached)
            passes += 1
            KCONFIG_PASSES.check(passes, place="Kconfig")
            for definition in self._kconfig.definitions:
                reached.update(test(definition))

    def _is_always(self, definition: Definition) -> Iterator[str]:
        """The symbols that `definition` sets in every configuration."""
        name = definition.symbol
        if name in self._always:
            yield from (target for target, condition in definition.selects if self._must(condition))
        elif definition.prompt is None and definition.defaults and self._must(definition.depends):
            first = definition.defaults[0]
            if self._must(first.condition) and self._must(first.value):
                yield name

    def _must(self, expr: Expr) -> bool:
        if isinstance(expr, Symbol):
            return expr.name in self._always
        if isinstance(expr, And):
            return self._must(expr.left) and self._must(expr.right)
        if isinstance(expr, Or):
            return self._must(expr.left) or self._must(expr.right)
        if isinstance(expr, Not):
            return isinstance(expr.operand, Symbol) and expr.operand.name not in self._kconfig.symbols
        return isinstance(expr, Literal) and expr.text in ("y", "m")

    def _is_possible(self, definition: Definition) -> Iterator[str]:
        """The symbols that `definition` can set: its own, and those it selects or implies."""
        name = definition.symbol
        if name not in self.possible and name not in self._held and self._can_be_set(definition):
            yield name
        if name in self.possible:
            for target, condition in (*definition.selects, *definition.implies):
                whole = And(Symbol(name), condition)
                new = target not in self.possible and target not in self._held
                if new and self.can(whole) and not self._refused(target, whole):
                    yield target

    def _can_be_set(self, definition: Definition) -> bool:
        if definition.symbol == _BUILD_ONLY or not self.can(definition.depends):
            return False
        if definition.choice is not None and definition.choice in self._taken:
            return False
        if definition.visible is not None and self.can(definition.visible):
            return True
        for default in definition.defaults:
            whole = conjunction([definition.depends, default.condition, default.value])
            if self.can(whole) and not self._refused(definition.symbol, whole):
                return True
        return False

    def _refused(self, symbol: str, expr: Expr) -> bool:
        """Whether the final configuration shows that a macro call in `expr` is false: all else in it holds, and
        `symbol` is not set all the same."""
        if self._any_toolchain or symbol in self._config:
            return False
        return has_macro(expr) and bool(evaluate(expr, self._config, macro=2))

    def can(self, expr: Expr, *, be: bool = True) -> bool:
        """Whether some configuration makes `expr` true (or, with `be` False, makes it false)."""
        if isinstance(expr, Symbol):
            return expr.name in self.possible if be else expr.name not in self._always
        if isinstance(expr, And | Or):
            left, right = self.can(expr.left, be=be), self.can(expr.right, be=be)
            return (left and right) if isinstance(expr, And) == be else (left or right)
        if isinstance(expr, Not):
            return self.can(expr.operand, be=not be)
        if expr == MODULE and "MODULES" in self._held - self._config.keys():
            return not be
        if isinstance(expr, Literal):
            return (TRISTATE.get(expr.text, 0) > 0) == be
        return True if isinstance(expr, Macro) else self._can_compare(expr, be=be)

    def _can_compare(self, expr: Compare, *, be: bool) -> bool:
        """A comparison with something that can be set by hand can go either way; with what the host or the tree
        gives (a compiler's version), it is what it is."""
        if isinstance(expr.left, Macro) or isinstance(expr.right, Macro):
            return True
        names = set(symbols_in(expr))
        if names <= self._held:
            return bool(evaluate(expr, self._config)) == be
        for name in names:
            definitions = self._kconfig.symbols.get(name, ())
            if any(definition.prompt is not None for definition in definitions):
                return True
            if any(definition.type in ("bool", "tristate") for definition in definitions):
                return True
        return bool(evaluate(expr, self._config)) == be
