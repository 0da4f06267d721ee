"""Turns a document's text into validated objects. The only module that imports YAML and pydantic."""

from __future__ import annotations

import contextlib
import re
from typing import Any, Self, TypeVar

import pydantic
import yaml

from harness.errors import UserError

Shape = TypeVar("Shape", bound="Strict")


class Outside(str):
    """A text that came as a whole from outside the document, so it may stand for a number if one is expected.
    `is_missing`: no value came; this is a placeholder that is valid everywhere."""

    is_missing = False


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
            texts = {key: data[key] for key in wrong if isinstance(data, dict) and isinstance(data.get(key), Outside)}
            instead = {key: cls._instead(str(key), text) for key, text in texts.items()}
            if instead == texts:
                raise
            return validated({**data, **instead})

    @classmethod
    def _instead(cls, key: str, text: Outside) -> Any:
        if text.is_missing:
            field = cls.model_fields.get(key)
            return 1 if field is None or field.is_required() else field.default
        for kind in (int, float):
            with contextlib.suppress(ValueError):
                return kind(text)
        return text


class _Loader(yaml.SafeLoader):
    """Only true and false are booleans, as in YAML 1.2; `on` and `off` are texts, the names of power states."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^(?:true|True|false|False)$"), list("tTfF"))


class _TextLoader(yaml.SafeLoader):
    """Every value is the text in the file: 6.10 is not a number, 2026-12-31 not a date. A duplicate key is refused,
    because it would hide the first one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"a second {key.value!r}", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_TextLoader.yaml_implicit_resolvers = {}


def load(text: str, *, place: str, texts_only: bool = False) -> Any:
    """Parse the document in `text`. Raises UserError with line and column if it is not YAML. `texts_only`: every value
    is a text."""
    try:
        return yaml.load(text, _TextLoader if texts_only else _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{place}:{mark.line + 1}:{mark.column + 1}" if mark else place
        problem = getattr(error, "problem", None) or str(error)
        raise UserError(f"{where}: expected a YAML document, found a syntax error: {problem}") from None
    except ValueError as error:  # an invalid date or integer
        raise UserError(f"{place}: expected a YAML document, found an invalid value: {error}") from None


def shaped(data: Any, shape: type[Shape], *, place: str) -> Shape:
    """Convert `data` to a `shape`. Raises UserError with one line for each problem: place, expectation, finding."""
    try:
        return shape.model_validate(data)
    except pydantic.ValidationError as error:
        lines = [_complaint(problem, data, place=place) for problem in error.errors(include_url=False)]
        raise UserError(lines[0], details=lines[1:]) from None


def _complaint(problem: Any, data: Any, *, place: str) -> str:
    where = _where(problem["loc"], data)
    found = problem["input"]
    match problem["type"]:
        case "extra_forbidden":
            return f"{place}: {where}: unknown key; remove it or correct its spelling"
        case "missing":
            return f"{place}: {where}: expected this key, found none"
        case "model_type" | "dict_type" | "model_attributes_type":
            return f"{place}: {where or 'document'}: expected a mapping, found {_found(found)}"
        case "union_tag_not_found":
            return f"{place}: {where}.{_discriminator(problem)}: expected this key, found none"
        case "union_tag_invalid":
            expected = problem["ctx"]["expected_tags"].replace(", ", " or ")
            return f"{place}: {where}.{_discriminator(problem)}: expected {expected}, found {problem['ctx']['tag']!r}"
    expectation = problem["msg"].replace("Input should be ", "").replace("a valid ", "a ")
    expectation = expectation.replace("String should match pattern", "a text that matches")
    for article in ("integer", "array"):
        expectation = expectation.replace(f"a {article}", f"an {article}")
    return f"{place}: {where}: expected {expectation}, found {_found(found)}"


def _where(location: tuple[Any, ...], data: Any) -> str:
    """Return the keys on the way to a problem, without the names of tried alternatives that pydantic inserts."""
    parts: list[str] = []
    for index, part in enumerate(location):
        inside = part in data if isinstance(data, dict) else isinstance(data, list) and isinstance(part, int)
        if inside:
            data = data[part]
        elif not (isinstance(data, dict) and index == len(location) - 1):
            continue
        parts.append(str(part))
    return ".".join(parts)


def _discriminator(problem: Any) -> str:
    return str(problem["ctx"]["discriminator"]).strip("'")


def _found(value: Any) -> str:
    if value is None:
        return "nothing"
    return repr(value) if isinstance(value, str | int | float | bool) else f"a {type(value).__name__}"
