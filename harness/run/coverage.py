"""Notes which changed lines of the kernel each test executes.

QEMU's plugin (build/overlay/coverage.c) writes a byte for each instruction, which is cleared before a test and read
behind it. Each process of a run appends what its tests have executed to coverage.jsonl; in the end all of it becomes
coverage.json, and notes of the run."""

from __future__ import annotations

import contextlib
import json
import mmap
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

from harness import jsonfile
from harness.model.coverage import HITS, ChangedCode, Coverage, Probe, Probing
from harness.report.coverage import coverage_json, coverage_notes
from harness.run.machine import Machine
from harness.run.recorder import Recorder

LINES, DOCUMENT = "coverage.jsonl", "coverage.json"
_SYMBOL = "_text"


def learn_addresses(machine: Machine, probing: Probing) -> str:
    """Write the table of the probe, now that the machine runs the kernel that was changed. Machines that are started
    later note what they execute. Returns why that can't be had, empty if it can, or if there is no such code."""
    code, table = probing.code, probing.probe.table
    if not code.addresses:
        return ""
    found = machine.run(f"grep -m 1 ' {_SYMBOL}$' /proc/kallsyms").output.strip()
    try:
        text = int(found.split()[0], 16)
    except (ValueError, IndexError):
        text = 0
    if not 0 < text < 1 << 64:
        return f"/proc/kallsyms: expected the address of {_SYMBOL}, found: {found[:80]!r}"
    places = array("Q", sorted((address + text - code.text) % (1 << 64) for address in code.addresses))
    scratch = table.with_suffix(".partial")
    scratch.write_bytes(places.tobytes())
    scratch.replace(table)
    return ""


class Hits:
    """What the machines of one process have executed. Their files are in `logs`, the run's in `run_dir`. `fail` is told
    of what can't be written or read."""

    def __init__(self, probe: Probe, *, logs: Path, run_dir: Path, fail: Callable[[OSError, Path], None]) -> None:
        self._fail = fail
        self._file = logs / HITS
        self._count = probe.count
        self._lines = run_dir / LINES

    def clear(self) -> None:
        """Forget what was executed until now."""
        try:
            with self._mapped() as hits:
                hits[:] = bytes(len(hits))
        except OSError as error:
            self._fail(error, self._file)

    def keep(self, test: str) -> None:
        """Record what was executed since `clear` as executed by `test`."""
        try:
            with self._mapped() as hits:
                places = [place for place, hit in enumerate(bytes(hits)) if hit]
            if places:
                with self._lines.open("a") as file:
                    file.write(json.dumps({"test": test, "hits": places}) + "\n")
        except OSError as error:
            self._fail(error, self._lines)

    @contextlib.contextmanager
    def _mapped(self) -> Iterator[mmap.mmap | bytearray]:
        """The bytes that QEMU writes; none before the first machine with a probe."""
        try:
            file = self._file.open("r+b")
        except FileNotFoundError:
            yield bytearray()
            return
        with file, mmap.mmap(file.fileno(), self._count) as mapped:
            yield mapped


def read_coverage(code: ChangedCode, run_dir: Path) -> Coverage:
    """Return what the tests of the run in `run_dir` have executed, however far it came."""
    by_place: dict[int, dict[str, None]] = {}
    for test, places in _recorded(run_dir / LINES):
        for place in places:
            by_place.setdefault(place, {})[test] = None
    places_of = {address: place for place, address in enumerate(code.addresses)}
    tests = (
        dict.fromkeys(test for address in line.addresses for test in by_place.get(places_of[address], ()))
        for line in code.lines
    )
    return Coverage(code=code, tests=tuple(tuple(each) for each in tests))


def tests_by_function(run_dir: Path) -> dict[str, tuple[str, ...]]:
    """Return, from the document of a run, the functions with changed lines, and by which tests any of these was
    executed; nothing if there is no such document."""
    found: dict[str, dict[str, None]] = {}
    try:
        for line in jsonfile.read_object(run_dir / DOCUMENT)["lines"]:
            tests = found.setdefault(str(line["function"]), {})
            tests.update(dict.fromkeys(str(test) for test in line["tests"]))
    except (OSError, ValueError, TypeError, KeyError):
        return {}
    return {function: tuple(tests) for function, tests in found.items()}


def write_coverage(code: ChangedCode, run_dir: Path, recorder: Recorder) -> None:
    """Write what the run has executed to coverage.json, and note what it means for people."""
    coverage = read_coverage(code, run_dir)
    for note in coverage_notes(coverage):
        recorder.note(note)
    try:
        (run_dir / DOCUMENT).write_text(coverage_json(coverage))
    except OSError as error:
        recorder.fail(error, run_dir / DOCUMENT)


def _recorded(path: Path) -> Iterator[tuple[str, list[int]]]:
    if not path.exists():
        return
    with path.open() as file:
        for text in file:
            with contextlib.suppress(ValueError, KeyError, TypeError):  # the last line of a process that was killed
                told = json.loads(text)
                yield str(told["test"]), [int(place) for place in told["hits"]]
