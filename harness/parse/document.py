"""Turns a document's text into validated objects. The only module that imports YAML and pydantic."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Container, Mapping
from typing import Any, Self, TypeVar

import pydantic
import yaml

from harness.errors import UserError
from harness.limits import NUMBER_DIGITS, YAML_BYTES, YAML_NESTED, YAML_NODES

Shape = TypeVar("Shape", bound="Strict")

_SHOWN = 100  # characters of a key or value that a message shows, or bits of a number


class Outside(str):
    """A text that came as a whole from outside the document, so it may stand for a number if one is expected.
    `is_missing`: no value came; this is a placeholder that is valid everywhere. `is_secret`: messages must not show
    it."""

    is_missing = False
    is_secret = False


def _is_from_outside(value: object) -> bool:
    """Whether it is a text from outside the document, or a list in which one is missing."""
    if isinstance(value, list):
        return any(isinstance(item, Outside) and item.is_missing for item in value)
    return isinstance(value, Outside)


class Strict(pydantic.BaseModel):
    """A mapping with exactly the declared keys, each of exactly the declared type."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True)

    @pydantic.model_validator(mode="wrap")
    @classmethod
    def _from_outside(cls, data: Any, validated: pydantic.ModelWrapValidatorHandler[Self]) -> Self:
        """Try it as a text first, then as a number."""
        try:
            return validated(data)
        except pydantic.ValidationError as error:
            wrong = {problem["loc"][0] for problem in error.errors() if problem["loc"]}
            texts = {key: data[key] for key in wrong if isinstance(data, dict) and _is_from_outside(data.get(key))}
            instead = {key: cls._instead(str(key), text) for key, text in texts.items()}
            if instead == texts:
                raise
            return validated({**data, **instead})

    @classmethod
    def _instead(cls, key: str, text: Outside | list[Any]) -> Any:
        if isinstance(text, list) or text.is_missing:
            field = cls.model_fields.get(key)
            if field and field.examples:
                return field.examples[0]
            return 1 if field is None or field.is_required() else field.default
        for kind in (int, float):
            with contextlib.suppress(ValueError):
                return kind(text)
        return text


def entry(values: Mapping[str, object]) -> str:
    """Return `values` as an entry of a list in a YAML document, two spaces in."""
    text = yaml.safe_dump([dict(values)], sort_keys=False, allow_unicode=True, width=110, default_flow_style=None)
    return "".join(f"  {line}\n" for line in text.splitlines())


class _Bounded(yaml.SafeLoader):
    """Refuses documents that are small in a file but large, or endless, once their aliases are expanded."""

    def __init__(self, text: str, *, place: str) -> None:
        super().__init__(text)
        self._place = place
        self._open: list[int] = []  # the line in which each value around the present one begins
        self._sizes: dict[int, int] = {}  # how many values are in a node, by its id
        self._count = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
        where = f"{self._place}:{event.start_mark.line + 1}" if event.start_mark else self._place
        begun = self._count
        self._open.append(begun)
        YAML_NESTED.check(len(self._open), place=where)
        node: yaml.Node | None = super().compose_node(parent, index)
        self._open.pop()
        if isinstance(event, yaml.AliasEvent):
            if id(node) not in self._sizes:
                raise UserError(
                    f"{where}: expected a value, found *{str(event.anchor)[:100]}, an alias of what it is in"
                )
            self._count += self._sizes[id(node)]
        else:
            self._count += 1
            self._sizes[id(node)] = self._count - begun
        YAML_NODES.check(self._count, place=where)
        if isinstance(node, yaml.ScalarNode) and node.tag in _NUMBERS:
            NUMBER_DIGITS.check(len(node.value), place=where)
        return node


_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


class _Loader(_Bounded):
    """Only true and false are booleans, as in YAML 1.2; `on` and `off` are texts, the names of power states."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^(?:true|True|false|False)$"), list("tTfF"))


# YAML 1.1 takes 12:34:56 for a number with the base 60, and so many a MAC address.
for _first in "123456789+-":
    _Loader.yaml_implicit_resolvers[_first] = [
        ("tag:yaml.org,2002:str", re.compile(r"^[-+]?[0-9_]+(?::[0-9]+)+(?:\.[0-9_]*)?$")),
        *_Loader.yaml_implicit_resolvers.get(_first, []),
    ]


class _TextLoader(_Bounded):
    """Every value is the text in the file: 6.10 is not a number, 2026-12-31 not a date. A duplicate key is refused,
    because it would hide the first one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key that is no text", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"a second {key.value!r}", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_TextLoader.yaml_implicit_resolvers = {}
# What PyYAML raises for a date or number that is none, and for a value of another kind than its tag says.
_INVALID = (ValueError, AttributeError, KeyError, IndexError, TypeError, RecursionError)


def load(text: str, *, place: str, texts_only: bool = False) -> Any:
    """Parse the document in `text`. Raises UserError with line and column if it is not YAML, or if it is above a limit.
    `texts_only`: every value is a text."""
    YAML_BYTES.check(len(text), place=place)
    try:
        loader = (_TextLoader if texts_only else _Loader)(text, place=place)
        return loader.get_single_data()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{place}:{mark.line + 1}:{mark.column + 1}" if mark else place
        problem = (getattr(error, "problem", None) or str(error)).partition("\n")[0]
        raise UserError(f"{where}: expected a YAML document, found a syntax error: {problem}") from None
    except _INVALID as error:
        raise UserError(f"{place}: expected a YAML document, found an invalid value: {error}") from None


def shaped(data: Any, shape: type[Shape], *, place: str, hidden: Container[str] = ()) -> Shape:
    """Convert `data` to a `shape`. Raises UserError with one line for each problem: place, expectation, finding.
    `hidden`: keys whose values, and what is below them, messages don't show."""
    try:
        return shape.model_validate(data)
    except pydantic.ValidationError as error:
        lines = [_complaint(problem, data, place=place, hidden=hidden) for problem in error.errors(include_url=False)]
        raise UserError(lines[0], details=lines[1:]) from None


def _complaint(problem: Any, data: Any, *, place: str, hidden: Container[str]) -> str:
    where = _where(problem["loc"], data)
    value = problem["input"]
    if any(key in hidden for key in problem["loc"]) and not isinstance(value, dict | list | None):
        value = Outside()
        value.is_secret = True
    match problem["type"]:
        case "extra_forbidden":
            return f"{place}: {where}: unknown key; remove it or correct its spelling"
        case "missing":
            return f"{place}: {where}: expected this key, found none"
        case "model_type" | "dict_type" | "model_attributes_type":
            return f"{place}: {where or 'document'}: expected a mapping, found {found(value)}"
        case "union_tag_not_found":
            return f"{place}: {where}.{_discriminator(problem)}: expected this key, found none"
        case "union_tag_invalid":
            expected = problem["ctx"]["expected_tags"].replace(", ", " or ")
            return f"{place}: {where}.{_discriminator(problem)}: expected {expected}, found {problem['ctx']['tag']!r}"
    expectation = problem["msg"].removeprefix("Value error, ").replace("Input should be ", "").replace("a valid ", "a ")
    expectation = expectation.replace("String should match pattern", "a text that matches")
    for article in ("integer", "array"):
        expectation = expectation.replace(f"a {article}", f"an {article}")
    return f"{place}: {where}: expected {expectation}, found {found(value)}"


def _where(location: tuple[Any, ...], data: Any) -> str:
    """Return the keys on the way to a problem, without the names of tried alternatives that pydantic inserts."""
    parts: list[str] = []
    for index, part in enumerate(location):
        inside = part in data if isinstance(data, dict) else isinstance(data, list) and isinstance(part, int)
        if inside:
            data = data[part]
        elif not (isinstance(data, dict) and index == len(location) - 1):
            continue
        parts.append(shown_key(part))
    return ".".join(parts)


def shown_key(key: object) -> str:
    """Return a key as messages show it: a document's author may have put anything into one."""
    text = str(key)[:_SHOWN]
    return text if text.isprintable() else repr(text)


def _discriminator(problem: Any) -> str:
    return str(problem["ctx"]["discriminator"]).strip("'")


def found(value: Any) -> str:
    """Return a value as messages show it."""
    if value is None:
        return "nothing"
    if isinstance(value, Outside) and value.is_secret:
        return "another value (not shown, it may be secret)"
    if isinstance(value, int) and value.bit_length() > _SHOWN:
        return "a number of more than 30 digits"
    if isinstance(value, str):
        return repr(value if len(value) <= _SHOWN else f"{value[:_SHOWN]}…")
    return repr(value) if isinstance(value, int | float) else f"a {type(value).__name__}"
