"""The shape of a plan for `harness nightly`: the keys, their types, and what each means, for editors."""

from __future__ import annotations

import re
from collections.abc import Sized
from typing import Annotated, Literal

import pydantic

from harness.model import night as model
from harness.model.names import NAME_PATTERN, NAME_RULE, is_name
from harness.parse import document

_MOST_REPETITIONS = 1000
_MOST_WORKERS = 256
_MOST_PRIORITY = 1000
_TIME = r"(?=[0-9])(?:([0-9]{1,4})h)?(?:([0-9]{1,5})m)?"
_LONGEST = 300


def _name(text: str) -> str:
    if not is_name(text):
        raise ValueError(f"a name of {NAME_RULE}")
    return text


def _toolchain(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9/~._+-]{1,300}", text) or text.startswith("-"):
        raise ValueError("a toolchain such as gcc-11, clang-16 or a prefix ending in -")
    return text


def _line(text: str) -> str:
    if not text.strip() or len(text) > _LONGEST or not text.isprintable():
        raise ValueError(f"a text of 1 to {_LONGEST} printable characters")
    return text


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("printable characters")
    return text


def _no_number(value: object) -> object:
    if isinstance(value, float):  # of 6.10, YAML leaves 6.1
        raise ValueError("a text: a version with a single dot has to be in quotes")
    return value


def _budget(text: str) -> str:
    if not re.fullmatch(_TIME, text) or not seconds(text):
        raise ValueError("a time such as 8h, 90m or 7h30m")
    return text


def seconds(text: str) -> float:
    """The seconds of ``8h``, ``90m`` or ``7h30m``."""
    match = re.fullmatch(_TIME, text)
    assert match
    hours, minutes = (int(part or 0) for part in match.groups())
    return 3600.0 * hours + 60.0 * minutes


def _not_empty(value: Sized) -> Sized:
    if not value:
        raise ValueError("at least one entry")
    return value


def _several(value: object) -> object:
    return [value] if isinstance(value, str) else value


_SOME = pydantic.AfterValidator(_not_empty)
_NAMED = pydantic.Field(json_schema_extra={"minProperties": 1, "propertyNames": {"pattern": f"^{NAME_PATTERN}$"}})
_LISTED = pydantic.Field(json_schema_extra={"minItems": 1})
Name = Annotated[
    str, pydantic.AfterValidator(_name), pydantic.Field(json_schema_extra={"pattern": f"^{NAME_PATTERN}$"})
]
Line = Annotated[str, pydantic.AfterValidator(_line), pydantic.Field(json_schema_extra={"minLength": 1})]
Keyword = Annotated[str, pydantic.AfterValidator(_printable)]
Source = Annotated[Line, pydantic.BeforeValidator(_no_number)]
Toolchain = Annotated[str, pydantic.AfterValidator(_toolchain)]
Repetitions = Annotated[int, pydantic.Field(ge=1, le=_MOST_REPETITIONS)]
Priority = Annotated[int, pydantic.Field(ge=-_MOST_PRIORITY, le=_MOST_PRIORITY)]
Factor = Annotated[float, pydantic.Field(ge=0.01, le=1000, allow_inf_nan=False)]
Workers = Annotated[int, pydantic.Field(ge=1, le=_MOST_WORKERS)]
Some = Annotated[
    list[Line],
    _SOME,
    pydantic.BeforeValidator(_several),
    pydantic.WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]
"""A name, or several in a list."""


class Kernel(document.Strict):
    kernel: Source = pydantic.Field(
        description="as for --kernel; a path is relative to the plan, with prebuilt: before that of a built kernel"
    )
    patches: list[Line] = pydantic.Field(
        default_factory=list, description="as for --patches, in this order; relative to the plan"
    )

    def made(self, name: str) -> model.PlannedKernel:
        return model.PlannedKernel(name=name, source=self.kernel, patches=tuple(self.patches))


class Tests(document.Strict):
    suites: list[Line] = pydantic.Field(default_factory=list, description="as for --suite; none: all suites")
    keyword: Keyword = pydantic.Field(default="", max_length=10_000, description="as for -k")

    def made(self, name: str) -> model.PlannedTests:
        return model.PlannedTests(name=name, suites=tuple(self.suites), keyword=self.keyword)


class Defaults(document.Strict):
    repetitions: Repetitions = pydantic.Field(
        default=model.Settings.repetitions, description="how many runs of each cell"
    )
    priority: Priority = pydantic.Field(
        default=model.Settings.priority, description="cells with a higher one come first"
    )
    timeout_factor: Factor = pydantic.Field(
        default=model.Settings.timeout_factor, description="multiplies every test's time limit"
    )
    workers: Workers = pydantic.Field(default=model.Settings.workers, description="machines of one run, as for -j")

    def made(self) -> model.Settings:
        return model.Settings(**self.model_dump())


class Names(document.Strict):
    kernel: Some | None = pydantic.Field(default=None, description="a kernel's name, or several")
    toolchain: Some | None = pydantic.Field(default=None, description="a toolchain, or several")
    configuration: Some | None = pydantic.Field(default=None, description="a configuration's name, or several")
    board: Some | None = pydantic.Field(default=None, description="a board or pool, or several")
    suites: Some | None = pydantic.Field(default=None, description="the name of a group of suites, or several")

    def names(self) -> dict[str, tuple[str, ...]]:
        """What is named, by axis."""
        given = {axis: getattr(self, axis) for axis in model.AXES}
        return {axis: tuple(some) for axis, some in given.items() if some}

    def made(self) -> model.Rule:
        return model.Rule(names=self.names())


class Override(Names):
    repetitions: Repetitions | None = pydantic.Field(default=None, description="instead of that of `defaults`")
    priority: Priority | None = pydantic.Field(default=None, description="instead of that of `defaults`")
    timeout_factor: Factor | None = pydantic.Field(default=None, description="instead of that of `defaults`")
    workers: Workers | None = pydantic.Field(default=None, description="instead of that of `defaults`")

    def made(self) -> model.Rule:
        changed = {key: value for key, value in self.model_dump(exclude=set(model.AXES)).items() if value is not None}
        return model.Rule(names=self.names(), changed=changed)


def _one_configuration() -> dict[str, list[str]]:
    return {"default": []}


class Plan(document.Strict):
    version: Literal[1] = pydantic.Field(default=1, description="of this format")
    budget: Annotated[str, pydantic.AfterValidator(_budget)] | None = pydantic.Field(
        default=None, description="how long a night may last, such as 8h, 90m or 7h30m: then nothing more is begun"
    )
    kernels: Annotated[dict[str, Kernel], _SOME, _NAMED] = pydantic.Field(
        description="the kernels, by names of your choice"
    )
    toolchains: Annotated[list[Toolchain], _SOME, _LISTED] = pydantic.Field(
        default_factory=lambda: ["gcc"], description="as for --toolchain"
    )
    configurations: Annotated[dict[str, list[Line]], _SOME, _NAMED] = pydantic.Field(
        default_factory=_one_configuration,
        description="lists of fragments, as for --kconfig, by names of your choice; paths are relative to the plan",
    )
    boards: Annotated[list[Name], _SOME, _LISTED] = pydantic.Field(description="boards or pools of boards.yaml")
    suites: Annotated[dict[str, Tests], _SOME, _NAMED] = pydantic.Field(
        default_factory=lambda: {"all": Tests()},
        description="groups of tests that run together, by names of your choice",
    )
    defaults: Defaults = pydantic.Field(default_factory=Defaults, description="how cells are run")
    exclude: list[Names] = pydantic.Field(default_factory=list, description="cells that are left out")
    include: list[Names] = pydantic.Field(
        default_factory=list, description="cells that stay although an entry of `exclude` means them"
    )
    overrides: list[Override] = pydantic.Field(
        default_factory=list, description="what is different for some cells; of several entries the later ones count"
    )
