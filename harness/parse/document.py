"""The one door to YAML and to pydantic: a document's text in, validated plain objects out."""

from __future__ import annotations

from typing import Any, TypeVar

import pydantic
import yaml

from harness.errors import UserError

Shape = TypeVar("Shape", bound="Strict")


class Strict(pydantic.BaseModel):
    """A mapping with exactly the declared keys, each of exactly the declared type."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True)


def load(text: str, *, place: str) -> Any:
    """The document in `text`; UserError with line and column where it is not YAML."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{place}:{mark.line + 1}:{mark.column + 1}" if mark else place
        problem = getattr(error, "problem", None) or str(error)
        raise UserError(f"{where}: expected a YAML document, found a syntax error: {problem}") from None
    except ValueError as error:  # a date that is none, an integer that is none
        raise UserError(f"{place}: expected a YAML document, found a value that is none: {error}") from None


def shaped(data: Any, shape: type[Shape], *, place: str) -> Shape:
    """`data` as a `shape`; UserError with one line for each thing that is wrong: place, expectation, finding."""
    try:
        return shape.model_validate(data)
    except pydantic.ValidationError as error:
        lines = [_complaint(problem, place=place) for problem in error.errors(include_url=False)]
        raise UserError(lines[0], details=lines[1:]) from None


def _complaint(problem: Any, *, place: str) -> str:
    where = ".".join(str(part) for part in problem["loc"])
    found = problem["input"]
    match problem["type"]:
        case "extra_forbidden":
            return f"{place}: {where}: unknown key; remove it or correct its spelling"
        case "missing":
            return f"{place}: {where}: expected this key, found none"
        case "model_type" | "dict_type" | "model_attributes_type":
            return f"{place}: {where or 'document'}: expected a mapping, found {_told(found)}"
    expectation = problem["msg"].replace("Input should be ", "").replace("a valid ", "a ")
    for article in ("integer", "array"):
        expectation = expectation.replace(f"a {article}", f"an {article}")
    return f"{place}: {where}: expected {expectation}, found {_told(found)}"


def _told(value: Any) -> str:
    if value is None:
        return "nothing"
    return repr(value) if isinstance(value, str | int | float | bool) else f"a {type(value).__name__}"
