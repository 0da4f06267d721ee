"""Known outcomes: read from their files, and restricted to one build on one board."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path

from harness.build.finished import load_record
from harness.errors import UserError
from harness.layout import EXPECTATIONS, KNOWN_ISSUES, PROJECT
from harness.limits import YAML_BYTES
from harness.model.board import BoardSpec
from harness.model.kernel import Build
from harness.model.known import Context, KnownOutcome, KnownOutcomes


def load_known(paths: Sequence[Path]) -> tuple[KnownOutcome, ...]:
    """The known outcomes in these files, in order; without any, those in the project's own files. UserError for a file
    that can't be read or is malformed."""
    from harness.parse.expectations import parse_expectations  # slow to import, and no worker reads files

    known: list[KnownOutcome] = []
    for path in paths or (EXPECTATIONS, KNOWN_ISSUES):
        place = path.relative_to(PROJECT) if path.is_relative_to(PROJECT) else path
        known += parse_expectations(_read(path), place=str(place))
    return tuple(known)


def _read(path: Path) -> str:
    try:
        return YAML_BYTES.read(path).decode()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UserError(f"{path}: expected a file of known outcomes, can't read it: {why}") from None


def known_on(known: Iterable[KnownOutcome], build: Build, board: BoardSpec, *, today: date) -> KnownOutcomes:
    """The known outcomes that apply to `build` on `board`."""
    toolchain = load_record(build.directory).kernel.toolchain
    command = toolchain.command.rpartition("/")[2]
    family = "clang" if "clang" in f"{command} {toolchain.name}" else "gcc"
    context = Context(
        release=build.release,
        board=board.name,
        today=today,
        toolchain=frozenset({toolchain.name, command, family} - {""}),
        compiler_version=toolchain.version,
        config=build.config,
    )
    return KnownOutcomes(known, context)
