"""Judges a final configuration: which requests are not met, why, and which of them may be missing."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.build.toolchain import PATCHABLE
from harness.errors import Unavailable, UserError
from harness.model.kernel import Toolchain
from harness.parse.kconfig import Request, is_met, unsatisfied
from harness.parse.kconfig_deps import Explainer, Explanation, explainer
from harness.parse.kconfig_lang import Kconfig

_WITH_REGS = ("DYNAMIC_FTRACE_WITH_", "HAVE_DYNAMIC_FTRACE_WITH_")
_MAX_NAMED = 6


def implied_off(symbol: str, demand: Request) -> Request:
    """Return the request that the wished `symbol` be off, because `demand` can't be met beside it."""
    return dataclasses.replace(demand, symbol=symbol, value="n", is_string=False)


@dataclass(frozen=True, kw_only=True)
class Judge:
    """`config`: what kbuild made of `requests`. `read_kconfig` reads the tree's Kconfig files, if that is needed.
    `users`: the symbols whose request is the user's own. `undoing`: wishes that were turned into requests to be off,
    because they would undo a demand, each with that demand."""

    read_kconfig: Callable[[], Kconfig]
    requests: Mapping[str, Request]
    users: frozenset[str]
    config: Mapping[str, str]
    undoing: Mapping[str, Request]
    toolchain: Toolchain
    allow_plain_ftrace: bool

    @functools.cached_property
    def _missing(self) -> list[Request]:
        return [request for request in unsatisfied(self.requests, self.config) if request.symbol not in self.undoing]

    @functools.cached_property
    def _explaining(self) -> Explainer:
        return explainer(self.read_kconfig(), self.config)

    def undoing_demands(self) -> dict[str, Request]:
        """Return the wishes that set what a demand wants off, each with the demand; none where a demand, too, sets
        it."""
        found: dict[str, Request] = {}
        for demand in self._missing:
            if demand.value == "n" and not demand.if_available:
                setters = [self.requests[name] for name in self._explaining.setters(demand.symbol) if self._asks(name)]
                if all(setter.if_available for setter in setters):
                    found |= {setter.symbol: demand for setter in setters}
        return found

    def _asks(self, symbol: str) -> bool:
        request = self.requests.get(symbol)
        return request is not None and request.value != "n" and request not in self._missing

    def verdict(
        self, without_the_users: Callable[[], Mapping[str, str] | None]
    ) -> tuple[dict[str, str], tuple[str, ...]]:
        """Return the reasons for what may be missing, and which of that was given up for what is demanded, or for what
        the user chose.

        `without_the_users` makes the final configuration of our own fragments; it is asked only if something has no
        other explanation. Raises UserError with all that may not be missing; Unavailable if this kernel or this
        compiler can't have any of that."""
        without = {wish: f"it would set {self._demanded(demand)}" for wish, demand in self.undoing.items()}
        given_up = list(self.undoing)
        refused: list[tuple[Request, str]] = []
        can_not_have = True
        compared = functools.cache(without_the_users)
        for request in self._missing:
            explanation = self._explaining.explain(request.symbol, wanted=request.value)
            rivals = [] if explanation.is_impossible else self._rivals(request)
            plain = not self.toolchain.patchable and _hangs_on_regs(explanation)
            if not rivals and not plain and not explanation.is_impossible:
                rivals = self._taken_away_by(request, compared)
            reason = explanation.sentence + "".join(f"; {self._asked(rival)}" for rival in rivals)
            if plain:
                reason += f"; {self.toolchain.command} {self.toolchain.version} has no {PATCHABLE}"
            if request.if_available and rivals and not any(rival.if_available for rival in rivals):
                given_up.append(request.symbol)
                without[request.symbol] = reason
            elif (request.if_available and explanation.is_impossible) or (plain and self.allow_plain_ftrace):
                without[request.symbol] = reason
            elif self._chosen_instead(request):
                given_up.append(request.symbol)
                without[request.symbol] = reason
            elif self._users_way(request, compared):
                given_up.append(request.symbol)
                without[request.symbol] = reason if rivals else f"{reason}; {self._users_fragments()}"
            else:
                refused.append((request, reason))
                # a symbol that this kernel does not know may be misspelled
                can_not_have = can_not_have and explanation.exists and explanation.is_impossible
        if refused:
            raise _refusal(refused, self.config, Unavailable if can_not_have else UserError)
        return without, tuple(given_up)

    def _chosen_instead(self, request: Request) -> bool:
        """Whether the user asks for another member of the same choice: of a choice, as of a symbol, the last one asked
        for is meant."""
        return request.symbol not in self.users and any(
            name in self.users and self.requests[name].value == "y"
            for name in self._explaining.chosen_instead_of(request.symbol)
        )

    def _users_way(self, request: Request, compared: Callable[[], Mapping[str, str] | None]) -> bool:
        """Whether the user's fragments take away what we wish for, by whatever way: without them it is there."""
        if not request.if_available or request.symbol in self.users:
            return False
        config = compared()
        return config is not None and is_met(request, config)

    def _users_fragments(self) -> str:
        names = dict.fromkeys(self.requests[symbol].place.rpartition(":")[0] for symbol in sorted(self.users))
        return f"it would be set without {', '.join(names)}"

    def _asked(self, rival: Request) -> str:
        demand = self.undoing.get(rival.symbol, rival)
        return f"{demand.place} asks for CONFIG_{demand.symbol}={demand.value}"

    def _demanded(self, demand: Request) -> str:
        return f"CONFIG_{demand.symbol}; {self._asked(demand)}"

    def _rivals(self, request: Request) -> list[Request]:
        """Return the satisfied requests that conflict with this one; only demands, if those suffice to explain it."""
        met = [other for other in self.requests.values() if other not in self._missing]
        for among in ([other.symbol for other in met if not other.if_available], [other.symbol for other in met]):
            if names := self._explaining.ruled_out_by(request.symbol, wanted=request.value, among=among):
                return [self.requests[name] for name in names]
        return []

    def _taken_away_by(self, request: Request, compared: Callable[[], Mapping[str, str] | None]) -> list[Request]:
        """Return the demands to be off that take the requested symbol away where, by the Kconfig files alone, other
        symbols could bring it back: those that concern it, if our own fragments without the user's have it."""
        off = (self.requests.get(name) for name in self._explaining.concerned(request.symbol))
        rivals = _demands_to_be_off(off, self._missing)
        config = compared() if rivals else None
        return rivals if config is not None and is_met(request, config) else []


def _demands_to_be_off(requests: Iterable[Request | None], missing: Sequence[Request]) -> list[Request]:
    return [
        request
        for request in requests
        if request and request.value == "n" and not request.if_available and request not in missing
    ]


def _hangs_on_regs(explanation: Explanation) -> bool:
    names = {explanation.symbol, *explanation.blockers}
    return explanation.by_toolchain and any(name.startswith(_WITH_REGS) for name in names)


def _refusal(refused: Sequence[tuple[Request, str]], config: Mapping[str, str], kind: type[UserError]) -> UserError:
    names = ", ".join(request.symbol for request, _ in refused[:_MAX_NAMED])
    if len(refused) > _MAX_NAMED:
        names += f" and {len(refused) - _MAX_NAMED} more"
    noun = "1 requested symbol is" if len(refused) == 1 else f"{len(refused)} requested symbols are"
    details = []
    for request, reason in refused:
        found = config.get(request.symbol)
        actual = "not set" if found is None else found or '""'
        wanted = f'"{request.value}"' if request.is_string else request.value
        details.append(f"{request.place}: CONFIG_{request.symbol}: expected {wanted}, found {actual}: {reason}")
    return kind(f"kernel configuration: {noun} not in the final .config: {names}", details=details)
