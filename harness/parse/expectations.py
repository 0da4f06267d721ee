"""Parses an expectations file: known outcomes, each with its reason."""

from __future__ import annotations

import re
from datetime import date
from typing import Any
from urllib.parse import urlsplit

from harness.errors import UserError
from harness.model.known import Compiler, KnownOutcome, Scope, Versions, version_of
from harness.model.result import Expectation, Verdict
from harness.parse import document
from harness.parse.kconfig import parse_fragment

_VERSION = r"\d{1,9}(?:\.\d{1,9})*"
_RANGE = re.compile(rf"(?={_VERSION}|\.\.\d)(?P<lowest>{_VERSION})?(?:(?P<to>\.\.)(?P<highest>{_VERSION})?)?")


class _Entry(document.Strict):
    """Keys that accept a text or a list of texts are checked here, so that the message says so."""

    test: str
    verdict: Any
    reason: str
    fault: Any = ()
    message: Any = ()
    kernel: str = ""
    board: Any = ()
    toolchain: Any = ()
    config: Any = ()
    issue: str = ""
    until: str = ""
    who: str = ""
    since: str = ""


class _Expectations(document.Strict):
    expectations: list[_Entry]


def parse_expectations(text: str, *, place: str) -> tuple[KnownOutcome, ...]:
    """Return the known outcomes of a file in its order. Raises UserError if it is malformed.

    An entry has ``test`` (an id or a pattern), ``verdict`` (one or a list) and ``reason``. What the outcome has to be
    besides: ``fault`` (a pattern of the title of the kernel's report, or its signature; required where CRASH is among
    the verdicts) and ``message`` (a pattern of the result's reason, for the other verdicts). Where it holds: ``kernel``
    (``7.3``, ``6.1..6.12``, ``..6.6``, ``7.0..``; both ends belong to it), ``board`` (a pattern), ``toolchain`` (a
    pattern of its name, then versions: ``gcc 12..13``), ``config`` (``CONFIG_X=y``, ``CONFIG_X=n``). ``issue``: a URL.
    ``until``: the last day (``2026-12-31``) or kernel version for which it counts. ``who`` wrote the entry, and
    ``since`` when (a day). A pattern's ``*`` stands for any
    text. Where patterns are a list one of them has to match; where ``config`` is one, all of it has to hold."""
    data = document.load(text, place=place, texts_only=True) or {"expectations": []}
    if isinstance(data, dict) and data.get("expectations") == "":
        data = {**data, "expectations": []}
    entries = document.shaped(data, _Expectations, place=place).expectations
    return tuple(_outcome(entry, f"{place}: expectations.{number}") for number, entry in enumerate(entries))


def _outcome(entry: _Entry, place: str) -> KnownOutcome:
    for key in ("test", "reason"):
        if not getattr(entry, key).strip():
            raise UserError(f"{place}.{key}: expected a text, found none")
    verdicts = tuple(_verdict(name, f"{place}.verdict") for name in _texts(entry.verdict, f"{place}.verdict"))
    if not verdicts:
        raise UserError(f"{place}.verdict: expected at least one verdict, found none")
    return KnownOutcome(
        expectation=Expectation(
            verdicts=verdicts,
            reason=_one_line(entry.reason),
            test=_one_line(entry.test),
            faults=_faults(entry, verdicts, f"{place}.fault"),
            messages=_messages(entry, verdicts, f"{place}.message"),
            issue=_issue(entry.issue, f"{place}.issue"),
            until=entry.until,
            who=_one_line(entry.who),
            since=_day(entry.since, f"{place}.since"),
            place=place,
        ),
        scope=Scope(
            kernel=_versions(entry.kernel, f"{place}.kernel") if entry.kernel else Versions(),
            boards=_texts(entry.board, f"{place}.board"),
            compilers=tuple(
                _compiler(each, f"{place}.toolchain") for each in _texts(entry.toolchain, f"{place}.toolchain")
            ),
            config=_config(_texts(entry.config, f"{place}.config"), f"{place}.config"),
        ),
        until=_until(entry.until, f"{place}.until") if entry.until else None,
    )


def _texts(value: Any, place: str) -> tuple[str, ...]:
    """Return the texts of a key that accepts one or a list of them."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list | tuple):
        raise UserError(f"{place}: expected a text or a list of texts, found a mapping")
    for text in texts:
        if not isinstance(text, str) or not text.strip():
            found = "an empty one" if isinstance(text, str) else f"a {type(text).__name__}"
            raise UserError(f"{place}: expected a text or a list of texts, found {found}")
    return tuple(_one_line(text) for text in texts)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _verdict(name: str, place: str) -> Verdict:
    if name not in Verdict.__members__:
        raise UserError(f"{place}: expected some of {', '.join(sorted(Verdict))}, found {name!r}")
    return Verdict(name)


def _faults(entry: _Entry, verdicts: tuple[Verdict, ...], place: str) -> tuple[str, ...]:
    faults = _texts(entry.fault, place)
    if Verdict.CRASH in verdicts and not faults:
        raise UserError(
            f"{place}: expected a pattern of the fault, because CRASH is among the verdicts; found none: results.json "
            "has a crash's fault, to paste here"
        )
    if faults and Verdict.CRASH not in verdicts:
        raise UserError(f"{place}: expected CRASH among the verdicts, because only a crash has a fault; found none")
    return faults


def _messages(entry: _Entry, verdicts: tuple[Verdict, ...], place: str) -> tuple[str, ...]:
    messages = _texts(entry.message, place)
    if messages and set(verdicts) <= {Verdict.CRASH, Verdict.PASS}:
        raise UserError(
            f"{place}: expected a verdict that has a message, such as FAIL; found {', '.join(verdicts)}: a crash "
            "is known by its `fault`"
        )
    return messages


def _versions(text: str, place: str) -> Versions:
    match = _RANGE.fullmatch(text)
    if match is None:
        raise UserError(f"{place}: expected a version or a range such as 6.1..6.12, found {text!r}")
    lowest = version_of(match["lowest"] or "")
    highest = version_of(match["highest"] or "") if match["to"] else lowest
    if highest and lowest[: len(highest)] > highest:
        raise UserError(f"{place}: expected the older version first, found {text!r}")
    return Versions(lowest=lowest, highest=highest)


def _compiler(text: str, place: str) -> Compiler:
    name, _, versions = text.partition(" ")
    if " " in versions:
        raise UserError(f"{place}: expected a name and a version or range, such as gcc 12..13, found {text!r}")
    return Compiler(name=name, versions=_versions(versions, place) if versions else Versions())


def _config(lines: tuple[str, ...], place: str) -> dict[str, str]:
    # as .config says that a symbol is not set; the # is left out, as a comment would begin with it here
    lines = tuple(f"# {line}" if line.endswith(" is not set") and not line.startswith("#") else line for line in lines)
    requests = parse_fragment("\n".join(lines), name=place).requests
    if len(requests) < len(lines):
        raise UserError(f"{place}: expected CONFIG_X=y, CONFIG_X=n and the like, each once, found {', '.join(lines)!r}")
    return {request.symbol: request.value for request in requests}


def _issue(text: str, place: str) -> str:
    try:
        url = urlsplit(text)
        is_one = url.scheme in ("http", "https") and bool(url.hostname) and not re.search(r"\s", text)
    except ValueError:  # brackets without an IPv6 address in them
        is_one = False
    if text and not is_one:
        raise UserError(f"{place}: expected a URL that begins with https:// or http://, found {text!r}")
    return text


def _day(text: str, place: str) -> str:
    try:
        return date.fromisoformat(text).isoformat() if text else ""
    except ValueError:
        raise UserError(f"{place}: expected a day such as 2026-12-31, found {text!r}") from None


def _until(text: str, place: str) -> date | Versions:
    wanted = "a day such as 2026-12-31 or a kernel version such as 7.4"
    if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
        try:
            return date.fromisoformat(text)
        except ValueError:
            raise UserError(f"{place}: expected {wanted}, found a day that does not exist: {text!r}") from None
    if not re.fullmatch(r"\d{1,9}(\.\d{1,9})+", text):
        raise UserError(f"{place}: expected {wanted}, found {text!r}")
    return Versions(highest=version_of(text))
