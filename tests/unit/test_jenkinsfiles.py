"""The Jenkinsfiles are Groovy, have what a declarative pipeline needs, and call what there is."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
from groovy_parser.parser import parse_groovy_content
from lark.exceptions import LarkError
from lark.lexer import Token

from harness.cli.main import cli
from harness.layout import PROJECT, SKELETON

FILES = (*sorted((PROJECT / "docs/jenkins").iterdir()), SKELETON / "Jenkinsfile")
# Of a declarative pipeline: https://www.jenkins.io/doc/book/pipeline/syntax/
SECTIONS = {"agent", "environment", "options", "parameters", "post", "stages", "triggers"}


def words_of(text: str) -> list[str]:
    """The words and signs of a file that the parser accepts, without white space and comments."""
    tree = parse_groovy_content(text)
    tokens = tree.scan_values(lambda value: isinstance(value, Token) and value.type not in ("NL", "COMMENT"))
    return [word for token in tokens if (word := str(_text(token)).strip())]


def _text(token: Token) -> object:
    value = token.value
    return value[-1] if isinstance(value, tuple | list) else value


def sections(text: str) -> list[str]:
    """The sections directly in the pipeline."""
    found, depth = [], 0
    for line in re.sub(r"//.*", "", text).partition("\n}")[0].splitlines():
        if depth == 1 and (match := re.match(r"\s*(\w+)\b", line)):
            found.append(match[1])
        depth += line.count("{") - line.count("}")
    return found


def test_there_is_one_for_a_night_and_one_for_a_patch() -> None:
    assert [path.name for path in FILES] == ["night.Jenkinsfile", "patch.Jenkinsfile", "Jenkinsfile"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_it_is_a_declarative_pipeline_in_groovy(path: Path) -> None:
    text = path.read_text()
    assert words_of(text)[:2] == ["pipeline", "{"]
    assert {"agent", "stages"} <= set(sections(text)) <= SECTIONS


@pytest.mark.parametrize("sign", ["}", "'"])
def test_a_file_with_a_brace_or_a_quote_too_few_is_refused(sign: str) -> None:
    """So the parser sees such mistakes."""
    first, _, rest = FILES[0].read_text().rpartition(sign)
    with pytest.raises(LarkError):
        words_of(first + rest)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_it_calls_verbs_and_options_that_there_are(path: Path) -> None:
    commands = re.findall(r"'(harness [^'\n]+)'", path.read_text())
    assert commands
    for command in commands:
        _, verb, *words = shlex.split(command)
        options = {name for each in cli.commands[verb].params for name in each.opts if isinstance(each, click.Option)}
        assert {word for word in words if word.startswith("--")} <= options, command
