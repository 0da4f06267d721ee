"""Parses a plan, the description of what `harness nightly` builds and tests; and its JSON schema, for editors."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from harness.errors import UserError
from harness.limits import PLAN_CELLS, PLAN_RULES
from harness.model import night as model
from harness.model.names import NAME_RULE, is_name, nearest_first
from harness.parse import document, plan_shapes

_MOST_COMPLAINTS = 20  # told at once


def parse_plan(text: str, *, name: str, place: str) -> model.Plan:
    """Return the plan in `text`. `name`: what to call it; `place`: the file's name in messages. Raises UserError: one
    line for each wrong key or value."""
    data = document.load(text, place=place)
    if data is None:
        raise UserError(f"{place}: expected a mapping with the keys `kernels` and `boards`, found an empty document")
    shaped = document.shaped(data, plan_shapes.Plan, place=place)
    plan = model.Plan(
        name=name,
        budget=None if shaped.budget is None else plan_shapes.seconds(shaped.budget),
        kernels={key: kernel.made(key) for key, kernel in shaped.kernels.items()},
        toolchains=tuple(shaped.toolchains),
        configurations={key: tuple(fragments) for key, fragments in shaped.configurations.items()},
        boards=tuple(shaped.boards),
        suites={key: tests.made(key) for key, tests in shaped.suites.items()},
        defaults=shaped.defaults.made(),
        exclude=tuple(names.made() for names in shaped.exclude),
        include=tuple(names.made() for names in shaped.include),
        overrides=tuple(override.made() for override in shaped.overrides),
    )
    complaints = list(itertools.islice(_complaints(plan, place), _MOST_COMPLAINTS))
    if complaints:
        raise UserError(complaints[0], details=complaints[1:])
    return plan


def plan_schema() -> str:
    """Return the JSON schema of plans, the text of docs/nightly.schema.json."""
    made = _plain(plan_shapes.Plan.model_json_schema())
    return json.dumps(
        {"$schema": "http://json-schema.org/draft-07/schema#", **made, "title": "a plan for harness nightly"},
        indent=1,
        ensure_ascii=False,
    )


def _plain(node: Any) -> Any:
    """`node` as pydantic made it, without the titles that it makes of names."""
    if isinstance(node, list):
        return [_plain(item) for item in node]
    if not isinstance(node, dict):
        return node
    kept = {key: value for key, value in node.items() if key != "title" or not isinstance(value, str)}
    return {key: _plain(value) for key, value in kept.items()}


def _complaints(plan: model.Plan, place: str) -> Iterator[str]:
    for key, named in (("kernels", plan.kernels), ("configurations", plan.configurations), ("suites", plan.suites)):
        for name in named:
            if not is_name(name):
                yield f"{place}: {key}: expected names of {NAME_RULE}; found {document.found(name)}"
    for key, several in (("toolchains", plan.toolchains), ("boards", plan.boards)):
        for twice in sorted(name for name, count in Counter(several).items() if count > 1):
            yield f"{place}: {key}: expected each name once, found {twice!r} more than once"
    count = len(plan.exclude) + len(plan.include) + len(plan.overrides)
    if count > PLAN_RULES.value:
        yield PLAN_RULES.exceeded(place=place, found=str(count)).message
        return
    known = dict(zip(model.AXES, _axes(plan), strict=True))
    for kind, rules in (("exclude", plan.exclude), ("include", plan.include), ("overrides", plan.overrides)):
        for number, rule in enumerate(rules):
            where = f"{place}: {kind}.{number}"
            if not rule.names and kind == "exclude":
                yield f"{where}: expected some of {', '.join(model.AXES)}, found none, which would leave out all cells"
            yield from _unknown(rule, known, where)
    count = _cells(plan)
    if count > PLAN_CELLS.value:
        yield PLAN_CELLS.exceeded(place=place, found=str(count)).message
    elif not count:
        yield f"{place}: exclude: expected some cells to be left, found that none is"


def _axes(plan: model.Plan) -> tuple[Collection[str], ...]:
    return plan.kernels, plan.toolchains, plan.configurations, plan.boards, plan.suites


def _unknown(rule: model.Rule, known: dict[str, Collection[str]], where: str) -> Iterator[str]:
    for axis, names in rule.names.items():
        for name in names:
            if name not in known[axis]:
                there: Sequence[str] = nearest_first(name, known[axis])[:5]
                yield f"{where}.{axis}: expected one of {', '.join(there)}, found {document.found(name)}"


def _cells(plan: model.Plan) -> int:
    """How many cells the plan has, without making them all; of too many combinations, how many those are."""
    of_sources = len(plan.toolchains) * len(plan.configurations)
    count = sum(1 if kernel.is_built else of_sources for kernel in plan.kernels.values())
    count *= len(plan.boards) * len(plan.suites)
    return count if count > PLAN_CELLS.value else sum(settings.repetitions for _, settings in plan.placed())
