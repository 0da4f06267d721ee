"""Which lines of a kernel a series has changed, and which of them tests have executed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

HITS = "coverage.hits"  # beside a machine's logs: what its QEMU has executed
Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What QEMU needs to note which instructions it executes: the `plugin`, a `table` of their addresses (8 bytes each,
    sorted; only there once it is known where the kernel runs), and how many there are."""

    plugin: Path
    table: Path
    count: int


@dataclass(frozen=True, kw_only=True)
class CodeLine:
    """A changed line that has become code: of which function, and at which link addresses its instructions are."""

    path: str
    line: int
    function: str
    addresses: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class ChangedCode:
    """The code that a series has changed. `lines`: in the order of files and lines; `text`: the link address of the
    symbol _text; `not_known`: files and functions whose execution can't be seen, each with the reason."""

    lines: tuple[CodeLine, ...]
    text: int = 0
    not_known: Mapping[str, str] = field(default_factory=dict)

    @property
    def addresses(self) -> tuple[int, ...]:
        """The link addresses of all instructions, sorted, each once."""
        return tuple(sorted({address for line in self.lines for address in line.addresses}))


@dataclass(frozen=True, kw_only=True)
class Probing:
    """Changed code, and the probe that notes which of it runs."""

    code: ChangedCode
    probe: Probe


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """The changed code of a run's kernel, and by which tests each line was executed (those of `code.lines`, in their
    order; a test's id once)."""

    code: ChangedCode
    tests: tuple[tuple[str, ...], ...]

    @property
    def missed(self) -> tuple[CodeLine, ...]:
        """The lines that no test has executed."""
        return tuple(line for line, tests in zip(self.code.lines, self.tests, strict=True) if not tests)
