"""Why a symbol is not in the final configuration: what it depends on that is not met, and whether it can be."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

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
    false_terms,
    has_macro,
    macro_terms,
    symbols_in,
)
from harness.parse.kconfig_lang import Definition, Kconfig

NEVER = "which no arm64 configuration of this kernel can have"
RULED_OUT = "which is ruled out by this compiler or linker"
NOT_THERE = "arm64 of this kernel has no such symbol"
_BUILD_ONLY = "COMPILE_TEST"
"""Lets code compile that is BROKEN or another machine's; no way to a kernel that boots."""
_MAX_CHAIN = 8
_MAX_NAMED = 4


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Why `symbol` has not got the value asked for.

    `exists`: the kernel knows it. `prompt`: what menuconfig calls it (None: it cannot be set by hand).
    `unmet`: the terms of its dependencies that are false (where it is `architectural`: those that can't be true).
    `conflicts`: other reasons (another member of its choice is set, another symbol selects it, …).
    `architectural`: no configuration of this architecture with this compiler can have it; `by_toolchain`: another
    compiler or linker might. `chain`: from `symbol` down to where the cause lies. `blockers`: every symbol whose
    absence plays a part.
    """

    symbol: str
    exists: bool
    prompt: str | None = None
    unmet: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    architectural: bool = False
    by_toolchain: bool = False
    chain: tuple[str, ...] = ()
    blockers: frozenset[str] = frozenset()

    @property
    def is_impossible(self) -> bool:
        """Whether this kernel cannot have it, whatever else is configured."""
        return not self.exists or self.architectural

    @property
    def sentence(self) -> str:
        """The reason, to stand behind ``CONFIG_X: ``."""
        if not self.exists:
            return NOT_THERE
        if self.architectural and len(self.chain) < 2 and not self.unmet:
            whole = RULED_OUT if self.by_toolchain else f"{NEVER} it"
            return whole.removeprefix("which ").removeprefix("is ")
        parts = [f"needs {_joined(self.unmet)}"] if self.unmet else []
        if self.unmet and self.unmet[:1] == self.chain[1:2]:
            parts = [f"needs {', which needs '.join(self.chain[1:])}"]
            parts += [f"needs {term}" for term in self.unmet[1:]] if not self.architectural else []
        if self.architectural:
            parts[0] += f", {RULED_OUT if self.by_toolchain else NEVER}"
        return "; ".join([*parts, *self.conflicts]) or "its dependencies look met; see the kernel's Kconfig files"


def _joined(terms: Sequence[str]) -> str:
    return " and ".join(f"({term})" if " || " in term and len(terms) > 1 else term for term in terms)


@dataclass(frozen=True, kw_only=True)
class Explainer:
    """Explains against one final configuration; made by `explainer`, because what is possible is worked out once
    for all symbols."""

    kconfig: Kconfig
    config: Mapping[str, str]
    reach: Reach
    reach_with_any_toolchain: Reach
    selectors: Mapping[str, list[tuple[str, Expr]]]
    choices: Mapping[str, list[str]] = field(default_factory=dict)

    def explain(self, symbol: str, *, wanted: str = "y") -> Explanation:
        """Why `symbol` is not `wanted` (``y``, ``m``, ``n`` or another value)."""
        definitions = self.kconfig.symbols.get(symbol)
        if definitions is None:
            return Explanation(symbol=symbol, exists=False)
        prompt = next((definition.prompt for definition in definitions if definition.prompt is not None), None)
        if wanted == "n":
            return Explanation(symbol=symbol, exists=True, prompt=prompt, conflicts=self._why_set(symbol))
        unmet, guessed = self._unmet(symbol, wanted=wanted)
        architectural = symbol not in self.reach.possible or guessed
        if architectural:
            unmet = [term for term in unmet if not self.reach.can(term)] or unmet
        return Explanation(
            symbol=symbol,
            exists=True,
            prompt=prompt,
            unmet=tuple(dict.fromkeys(str(term) for term in unmet if term != MODULE)),
            conflicts=() if unmet and MODULE not in unmet else self._conflicts(symbol, definitions, wanted=wanted),
            architectural=architectural,
            by_toolchain=architectural and symbol in self.reach_with_any_toolchain.possible,
            chain=tuple(self._chain(symbol, unmet, architectural=architectural)),
            blockers=frozenset(self._blockers(symbol)),
        )

    def _unmet(self, symbol: str, *, wanted: str = "y") -> tuple[list[Expr], bool]:
        """(the false terms of the definition that is nearest to being met, whether they are macro calls that
        must be false because nothing else is)."""
        definitions = self.kconfig.symbols.get(symbol, ())
        best: tuple[list[Expr], bool] | None = None
        for definition in sorted(definitions, key=lambda definition: definition.prompt is None):
            # A dependency that is m lets a tristate be no more than m, while a bool may still be y.
            need = 2 if wanted == "y" and definition.type == "tristate" else 1
            whole = _offer(definition)
            terms, guessed = self._false_terms(whole, need=need), False
            if wanted == "m" and definition.type == "tristate" and "MODULES" not in self.config:
                terms.append(Symbol("MODULES"))
            if not terms and symbol not in self.config:
                terms = macro_terms(whole, self.config)
                guessed = bool(terms)
            if best is None or len(terms) < len(best[0]):
                best = (terms, guessed)
        terms, guessed = best or ([], False)
        return (terms or self._unmet_selects(symbol), guessed) if self._is_hidden(symbol) else (terms, guessed)

    def _false_terms(self, expr: Expr, *, need: int) -> list[Expr]:
        terms = false_terms(expr, self.config, need=need)
        # `depends on m` is false for want of modules; where there are modules it only rules out y.
        return [Symbol("MODULES") if term == MODULE and "MODULES" not in self.config else term for term in terms]

    def _unmet_selects(self, symbol: str) -> list[Expr]:
        """What keeps the symbols that are set from selecting `symbol`: the false terms of their conditions."""
        for selector, condition in self.selectors.get(symbol, ()):
            if selector in self.config and (terms := false_terms(condition, self.config)):
                return terms
        return []

    def _is_hidden(self, symbol: str) -> bool:
        return all(definition.prompt is None for definition in self.kconfig.symbols.get(symbol, ()))

    def _conflicts(self, symbol: str, definitions: Iterable[Definition], *, wanted: str) -> tuple[str, ...]:
        found = []
        actual = self.config.get(symbol)
        for definition in definitions:
            rivals = [name for name in self.choices.get(definition.choice or "", ()) if name != symbol]
            found += [f"{rival} is chosen instead of it" for rival in rivals if rival in self.config]
            if wanted == "y" and MODULE in self._unmet(symbol)[0]:
                found.append("it can only be a module")
            if wanted == "m" and definition.type == "bool":
                found.append("it is a bool, which cannot be a module")
        if self._is_hidden(symbol):
            by = list(dict.fromkeys(name for name, _ in self.selectors.get(symbol, ())))
            found.append(f"it has no prompt{_selected_only_by(by)}")
        elif not found and actual is not None:
            found.append(f"kconfig made it {actual!r} (a range, or a symbol that selects it)")
        return tuple(found)

    def _why_set(self, symbol: str) -> tuple[str, ...]:
        """Why a symbol is set that was asked to be off."""
        by = [
            name
            for name, condition in self.selectors.get(symbol, ())
            if name in self.config and evaluate(condition, self.config, macro=2)
        ]
        if by:
            return (f"selected by {', '.join(dict.fromkeys(by))}",)
        if self._is_hidden(symbol):
            return ("it has no prompt: its default sets it",)
        definitions = self.kconfig.symbols.get(symbol, ())
        if any(definition.choice for definition in definitions):
            return ("its choice needs a member, and no other was asked for",)
        if not any(evaluate(_offer(definition), self.config, macro=2) for definition in definitions):
            return ("its prompt is not offered: its default sets it",)
        return ()

    def _chain(self, symbol: str, unmet: list[Expr], *, architectural: bool) -> Iterator[str]:
        """`symbol`, then the first unmet symbol, then that one's, down to the cause."""
        seen: set[str] = set()
        for _ in range(_MAX_CHAIN):
            yield symbol
            seen.add(symbol)
            plain = [term.name for term in unmet if isinstance(term, Symbol) and term.name not in seen]
            culprits = [name for name in plain if not architectural or name not in self.reach.possible]
            if not culprits:
                return
            symbol = culprits[0]
            unmet = self._unmet(symbol)[0]

    def _blockers(self, symbol: str) -> set[str]:
        """All symbols whose absence plays a part, found by following unmet terms."""
        found: set[str] = set()
        pending = [symbol]
        while pending:
            name = pending.pop()
            unset = {inner for term in self._unmet(name)[0] for inner in symbols_in(term)} - set(self.config)
            pending += sorted(unset - found)
            found |= unset
        return found


def explainer(kconfig: Kconfig, config: Mapping[str, str]) -> Explainer:
    """An Explainer for `config`, the final configuration of the tree that `kconfig` was read from."""
    selectors: dict[str, list[tuple[str, Expr]]] = {}
    choices: dict[str, list[str]] = {}
    for definition in _all(kconfig):
        for target, condition in definition.selects:
            selectors.setdefault(target, []).append((definition.symbol, condition))
        if definition.choice is not None:
            choices.setdefault(definition.choice, []).append(definition.symbol)
    return Explainer(
        kconfig=kconfig,
        config=config,
        reach=Reach(kconfig, config),
        reach_with_any_toolchain=Reach(kconfig, config, any_toolchain=True),
        selectors=selectors,
        choices=choices,
    )


def _all(kconfig: Kconfig) -> Iterator[Definition]:
    for definitions in kconfig.symbols.values():
        yield from definitions


def _offer(definition: Definition) -> Expr:
    """What has to hold for the definition to be set by hand, or by its default where it has no prompt."""
    if definition.visible is not None:
        return conjunction([definition.depends, definition.visible])
    if len(definition.defaults) == 1:
        default = definition.defaults[0]
        value = [] if isinstance(default.value, Literal) else [default.value]
        return conjunction([definition.depends, default.condition, *value])
    return definition.depends


def _selected_only_by(names: list[str]) -> str:
    if not names:
        return " and nothing selects it"
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return f"; it is selected by {', '.join(names[:_MAX_NAMED])}{more}"


class Reach:
    """Which symbols some configuration of this architecture can set.

    Judged generously, each dependency by itself: a symbol counts as out of reach only where its dependencies, its
    defaults and all that could select it are out of reach too. What macro calls answer (the compiler's and the
    linker's abilities) is read off the final configuration where that shows it; with `any_toolchain` it is taken
    to be yes. `possible`: their names.
    """

    def __init__(self, kconfig: Kconfig, config: Mapping[str, str], *, any_toolchain: bool = False) -> None:
        self._any_toolchain = any_toolchain
        self._kconfig = kconfig
        self._config = config
        self.possible: set[str] = set(config)
        self._always: set[str] = set()
        self._grow(self._always, self._is_always)
        self._grow(self.possible, self._is_possible)

    def _grow(self, reached: set[str], test: Callable[[Definition], Iterable[str]]) -> None:
        """Add to `reached` what `test` tells of each definition, until nothing is added."""
        before = -1
        while before != len(reached):
            before = len(reached)
            for definition in _all(self._kconfig):
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
        if name not in self.possible and self._can_be_set(definition):
            yield name
        if name in self.possible:
            for target, condition in (*definition.selects, *definition.implies):
                whole = And(Symbol(name), condition)
                if target not in self.possible and self.can(whole) and not self._refused(target, whole):
                    yield target

    def _can_be_set(self, definition: Definition) -> bool:
        if definition.symbol == _BUILD_ONLY or not self.can(definition.depends):
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
        if isinstance(expr, Literal):
            return (TRISTATE.get(expr.text, 0) > 0) == be
        return True if isinstance(expr, Macro) else self._can_compare(expr, be=be)

    def _can_compare(self, expr: Compare, *, be: bool) -> bool:
        """A comparison with something that can be set by hand can go either way; with what the host or the tree
        gives (a compiler's version), it is what it is."""
        if isinstance(expr.left, Macro) or isinstance(expr.right, Macro):
            return True
        for name in symbols_in(expr):
            definitions = self._kconfig.symbols.get(name, ())
            if any(definition.prompt is not None for definition in definitions):
                return True
            if any(definition.type in ("bool", "tristate") for definition in definitions):
                return True
        return bool(evaluate(expr, self._config)) == be
