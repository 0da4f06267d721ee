"""A program that does not end in time is one of our errors, with what to do, never a traceback."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import harness

_SOURCES = Path(harness.__file__).parent
_EXPIRES = "TimeoutExpired"


def _waits(tree: ast.AST) -> Iterator[ast.Call]:
    """The calls that raise subprocess.TimeoutExpired."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and any(each.arg in ("timeout", "limit") for each in node.keywords):
            called = ast.unparse(node.func)
            if called in ("subprocess.run", "run_tied") or called.endswith(("process.wait", ".communicate")):
                yield node


def _handled(tree: ast.AST) -> set[ast.AST]:
    """Everything inside a ``try`` or a ``suppress`` that knows of a program that does not end."""
    inside: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Try):
            told = [ast.unparse(each.type) for each in node.handlers if each.type]
        elif isinstance(node, ast.With):
            told = [ast.unparse(each.context_expr) for each in node.items]
        else:
            continue
        if any(_EXPIRES in each or each == "BaseException" for each in told):
            inside |= {each for statement in node.body for each in ast.walk(statement)}
    return inside


def _unhandled(source: str) -> list[int]:
    tree = ast.parse(source)
    handled = _handled(tree)
    return [call.lineno for call in _waits(tree) if call not in handled]


def test_every_wait_for_a_program_says_what_becomes_of_one_that_does_not_end() -> None:
    found = {str(path.relative_to(_SOURCES)): _unhandled(path.read_text()) for path in _SOURCES.rglob("*.py")}
    assert {path: lines for path, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("subprocess.run(x, timeout=1)", [1]),
        ("self._process.wait(timeout=1)", [1]),
        ("try:\n    process.communicate(timeout=1)\nexcept OSError:\n    pass", [2]),
        ("try:\n    run_tied(x, limit=1)\nexcept (OSError, subprocess.TimeoutExpired):\n    pass", []),
        ("with suppress(subprocess.TimeoutExpired):\n    process.wait(timeout=1)", []),
        ("shell.run(x, timeout=1)", []),
    ],
)
def test_what_is_looked_for(source: str, lines: list[int]) -> None:
    assert _unhandled(source) == lines
