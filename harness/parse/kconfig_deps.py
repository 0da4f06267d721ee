"""Explains why a symbol is not in the final configuration: its unmet dependencies, and whether they can be met."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from harness.parse.kconfig_expr import (
    MODULE,
    Expr,
    Literal,
    Symbol,
    conjunction,
    evaluate,
    false_terms,
    macro_terms,
    symbols_in,
)
from harness.parse.kconfig_lang import Definition, Kconfig
from harness.parse.kconfig_reach import Reach

NEVER = "which no arm64 configuration of this kernel can have"
RULED_OUT = "which is ruled out by this compiler or linker"
NOT_THERE = "arm64 of this kernel has no such symbol"
_MAX_CHAIN = 8
_MAX_NAMED = 4


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Why `symbol` does not have the requested value.

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
        """Whether this kernel can't have it, whatever else is configured."""
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
    reach_beside: dict[frozenset[str], Reach] = field(default_factory=dict)

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

    def ruled_out_by(self, symbol: str, *, wanted: str, among: Collection[str]) -> tuple[str, ...]:
        """Which symbols of `among`, being what they are, do not let `symbol` be `wanted`: where any of them would do
        alone, those that would; else all that it takes together. None where `symbol` could be `wanted` beside them."""
        if wanted == "n":
            return tuple(name for name in self.setters(symbol) if name in among)
        unmet = self._unmet(symbol, wanted=wanted)[0]
        if wanted == "m" and "MODULES" in among and Symbol("MODULES") in unmet:
            return ("MODULES",)
        modules = [name for name in among if self.config.get(name) == "m" and Symbol(name) in unmet]
        if wanted == "y" and modules:  # a tristate can be no more than what it depends on
            return tuple(modules)
        concerned = [name for name in self.concerned(symbol) if name in among and name != symbol]
        if not concerned or self._reaches(symbol, beside=concerned):
            return ()
        alone = [name for name in concerned if not self._reaches(symbol, beside=[name])]
        return tuple(alone or concerned)

    def _reaches(self, symbol: str, *, beside: Iterable[str]) -> bool:
        """Whether some configuration has `symbol` in which these symbols are what they are in this one."""
        held = frozenset(beside)
        if held not in self.reach_beside:
            self.reach_beside[held] = Reach(self.kconfig, self.config, held=held)
        return symbol in self.reach_beside[held].possible

    def concerned(self, symbol: str) -> list[str]:
        """The symbols whose values play a part in `symbol` not being set: those in unmet dependencies, those that could
        select what is not set by hand, and the rivals in a choice."""
        found: dict[str, None] = {}
        pending = [symbol]
        while pending:
            name = pending.pop()
            near = [inner for term in self._unmet(name)[0] for inner in symbols_in(term)]
            if self._is_hidden(name):
                near += [selector for selector, _ in self.selectors.get(name, ())]
            for definition in self.kconfig.symbols.get(name, ()):
                near += [rival for rival in self.choices.get(definition.choice or "", ()) if rival in self.config]
            near = list(dict.fromkeys(near))
            near += [setter for inner in near if inner in self.config for setter in self.setters(inner)]
            pending += [inner for inner in dict.fromkeys(near) if inner not in found and inner not in self.config]
            found |= dict.fromkeys(near)
        return list(found)

    def setters(self, symbol: str) -> list[str]:
        """The symbols that are set and select `symbol`, and those that select these."""
        found: dict[str, None] = {}
        pending = [symbol]
        while pending:
            for name, condition in self.selectors.get(pending.pop(), ()):
                if name not in found and name in self.config and evaluate(condition, self.config, macro=2):
                    found[name] = None
                    pending.append(name)
        return list(found)

    def chosen_instead_of(self, symbol: str) -> list[str]:
        """The members that are set of the choices that `symbol` belongs to, except itself."""
        choices = [definition.choice or "" for definition in self.kconfig.symbols.get(symbol, ())]
        rivals = [name for choice in choices for name in self.choices.get(choice, ())]
        return [name for name in rivals if name != symbol and name in self.config]

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
        found = [f"{rival} is chosen instead of it" for rival in self.chosen_instead_of(symbol)]
        actual = self.config.get(symbol)
        for definition in definitions:
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
    for definition in kconfig.definitions:
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
