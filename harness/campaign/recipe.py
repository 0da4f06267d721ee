"""Gathers what has to be known to repeat a failure: from the run's directory, the build's, and boards.yaml."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from harness import jsonfile
from harness.build.cache import cache_dir
from harness.build.finished import load_build, load_record
from harness.build.keptpatches import keep_patches, paths_of
from harness.build.load_patches import load_patches
from harness.build.rootfs import root_digest
from harness.errors import HarnessError, UserError
from harness.limits import SOURCE_BYTES
from harness.model.board import BoardSpec
from harness.model.kernel import Build
from harness.model.names import as_name, is_name, nearest_first
from harness.model.product import Digest
from harness.model.record import BuildRecord
from harness.model.repro import RECIPE, Recipe
from harness.model.result import BUILD, Attempt, Result, RunResults
from harness.report.repro import files_from_json
from harness.report.text import one_line
from harness.run.documents import read_results
from harness.run.identity import running_harness
from harness.target.methods.qemu import QEMU

BOOTED = ("Image", "vmlinux")
_FRAGMENTS = "kconfigs"  # the directory of an archive that has them
_NEAREST = 3
_LONGEST_LOG_BYTES = 16 << 20  # at the end of a console's or QEMU's log
_FLAGS = ("--allow-plain-ftrace", "--no-era-fixes")  # of `harness build`: what the kernel is depends on them
_VALUED = ("--kernel", "--toolchain", "--selftests")


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A failure in the run of a directory. `build`: the kernel it ran on, if that is at hand."""

    directory: Path
    results: RunResults
    result: Result
    record: BuildRecord
    build: Build | None = None

    @property
    def before(self) -> tuple[str, ...]:
        """The tests that had run before on the same machine, in their order."""
        machine, began = self.result.machine, self.result.started
        if not machine or began is None:
            return ()
        found = []
        for other in self.results.results:
            for each in other.attempts or (other,):
                if each.machine == machine and each.started is not None and each.started < began:
                    found.append((each.started, other.test))
        return tuple(dict.fromkeys(test for _, test in sorted(found) if test != self.result.test))


def find_failure(directory: Path, test: str, *, build_dir: Path | None = None) -> Failure:
    """Find the failure of `test` in a run. `build_dir`: the build of its kernel; None: the cache's, if it is still
    there. Raises UserError if there is no such test, or if it did not fail."""
    results = read_results(directory)
    by_name = {result.test: result for result in results.results}
    failed = [name for name, result in by_name.items() if _has_failed(result)]
    near = "".join(f"\n{one_line(name)}" for name in nearest_first(test, failed)[:_NEAREST]).splitlines()[1:]
    result = by_name.get(test)
    if result is None:
        raise UserError(f"{one_line(test)}: expected a test of the run {directory}, found none{_such_as(near)}")
    if not _has_failed(result):
        raise UserError(f"{one_line(test)}: expected a test that failed in {directory}, found {result.verdict}"
                        f"{_such_as(near)}")  # fmt: skip
    if test == BUILD:
        raise UserError(f"{directory}: this kernel does not build; build.json there says how to try that again")
    record = load_record(directory)
    found = load_build(build_dir) if build_dir else _cached(results.record.build or record.key)
    return Failure(directory=directory, results=results, result=result, record=record, build=found)


def _such_as(names: Sequence[str]) -> str:
    return f"; of its failures these are nearest: {', '.join(names)}" if names else "; no test failed there"


def _has_failed(attempt: Attempt) -> bool:
    return (attempt.actual or attempt.verdict).is_kernel_fault


def _cached(key: str) -> Build | None:
    """The build of this name in the cache."""
    if not is_name(key):
        return None
    try:
        return load_build(cache_dir("builds") / key)
    except HarnessError:  # not there any more, or damaged
        return None


def recorded_files(failure: Failure) -> dict[str, Digest]:
    """Digests of what the failure was seen with, as far as they are recorded: by an archive's repro.json, else by the
    build of its run."""
    try:
        return files_from_json(jsonfile.read_bytes(failure.directory / RECIPE))
    except (OSError, ValueError):
        build = failure.build
    files = _booted(build) if build else {}
    root = root_digest() if failure.results.record.harness.commit == running_harness().commit else None
    return files | ({"root image": root} if root else {})


def other_files(failure: Failure, build: Build) -> list[str]:
    """What of a build differs from what the failure was seen with."""
    recorded, now = recorded_files(failure), _booted(build)
    return [
        f"{name}: SHA-256 {now[name].sha256[:16]}…, in the run it was {recorded[name].sha256[:16]}…"
        for name in BOOTED
        if name in recorded and name in now and recorded[name] != now[name]
    ]


def _booted(build: Build) -> dict[str, Digest]:
    own = (each for each in build.products if each.path.absolute().parent == build.directory)
    return {each.path.name: each.digest for each in own if each.path.name in BOOTED}


def gathered(failure: Failure, board: BoardSpec | None) -> tuple[Recipe, dict[str, bytes]]:
    """Return the recipe of a failure, and the files that belong to it, by their names in the archive."""
    run, record = failure.results.record, failure.record
    lacking: list[str] = []
    files: dict[str, bytes] = {}
    building = _building(failure, files, lacking)
    digests = recorded_files(failure)
    lacking += [f"the SHA-256 of {name}: the build is not in the cache" for name in BOOTED if name not in digests]
    if "root image" not in digests:
        lacking.append("the SHA-256 of the root image: another harness made it")
    if failure.build:
        files["kernel.config"] = SOURCE_BYTES.read(failure.build.directory / ".config")
    elif (config := failure.directory / "kernel.config").is_file():
        files["kernel.config"] = SOURCE_BYTES.read(config)
    else:
        lacking.append("the kernel's configuration: the build is not in the cache")
    if board is None:
        lacking.append(f"the entry of the board {one_line(run.board.name)}: it is not in boards.yaml")
    files["console.log"] = _console_part(failure).encode("utf-8", "replace")
    recipe = Recipe(
        result=failure.result,
        before=failure.before,
        run=run,
        build=record,
        files=digests,
        qemu=_qemu_command(failure),
        board=board_entry(board) if board else {},
        building=building,
        lacking=tuple(lacking),
    )
    return recipe, files


def board_entry(board: BoardSpec) -> dict[str, object]:
    """What boards.yaml says of a board, without how it is reached: that is where passwords are, and of no use
    elsewhere."""
    entry = {
        "name": board.name,
        "description": board.description,
        "boot": {"method": board.boot.method, **dataclasses.asdict(board.boot)},
        "cmdline": board.cmdline,
        "kconfigs": list(board.kconfigs),
        "limits": dataclasses.asdict(board.limits),
    }
    return dict(json.loads(json.dumps(entry)))


def _building(failure: Failure, files: dict[str, bytes], lacking: list[str]) -> tuple[str, ...]:
    """Return the words of the command that builds the kernel in the archive's directory; adds what it needs to `files`.
    Empty if something of that is gone. Of what the record says only known options are taken."""
    try:
        words = shlex.split(failure.record.reproduce)
    except ValueError:
        words = []
    if words[:2] != ["harness", "build"]:
        lacking.append("how the kernel was built: build.json does not say it")
        return ()
    kept = ["harness", "build"]
    given: dict[str, list[str]] = {"--patches": [], "--kconfig": []}
    following = iter(words[2:])
    for word in following:
        if word in _FLAGS:
            kept.append(word)
        elif word in _VALUED:
            kept += [word, next(following, "")]
        elif word in given:
            given[word].append(next(following, ""))
    series = failure.record.kernel.patches
    paths = paths_of(series, directory=failure.directory, given=[Path(path) for path in given["--patches"]])
    if paths is None:
        lacking.append("the patches: they are neither in the run's directory nor where they were")
        return ()
    if series:
        files |= _patch_files(paths)
        kept += ["--patches", "patches"]
    for number, path in enumerate(given["--kconfig"], 1):
        name = f"{_FRAGMENTS}/{number}-{as_name(Path(path).stem)}.config"
        try:
            files[name] = SOURCE_BYTES.read(_fragment(failure.directory, path))
        except (OSError, HarnessError):
            lacking.append(f"the configuration fragment {one_line(path)}, so the command that builds the kernel")
            return ()
        kept += ["--kconfig", name]
    board = failure.results.record.board.name
    return (*kept, *(("--board", board) if board != "qemu-virt" and is_name(board) else ()))


def _fragment(directory: Path, path: str) -> Path:
    """An archive has its fragments itself."""
    inside = directory / _FRAGMENTS / Path(path).name
    return inside if Path(path).parts[:-1] == (_FRAGMENTS,) else Path(path)


def _patch_files(paths: Sequence[Path]) -> dict[str, bytes]:
    with TemporaryDirectory(prefix="harness-repro-") as scratch:
        keep_patches(load_patches(tuple(paths)), Path(scratch))
        return {f"patches/{path.name}": path.read_bytes() for path in Path(scratch, "patches").iterdir()}


def _logs_of(failure: Failure) -> Iterator[Path]:
    """The directories with the logs of the failure's machine, the likeliest first."""
    worker, slash, _ = failure.result.machine.rpartition("/")
    for name in (worker if slash else "", failure.result.board):
        if name and is_name(name):
            yield failure.directory / f"worker-{name}"
    yield failure.directory


def _log(failure: Failure, name: str) -> str:
    for directory in _logs_of(failure):
        try:
            path = (directory / name).resolve(strict=True)
            if path.is_relative_to(failure.directory.resolve()) and path.is_file():
                with path.open("rb") as file:
                    file.seek(max(0, path.stat().st_size - _LONGEST_LOG_BYTES))
                    return file.read().decode("utf-8", "replace")
        except OSError:
            continue
    return ""


def _console_part(failure: Failure) -> str:
    """What the kernel said during the test: the last part of the console's log that begins with its name, or else its
    report."""
    part: list[str] = []
    is_ours = False
    for line in _log(failure, "console.log").splitlines():
        if line.startswith("--- "):
            is_ours = line == f"--- {failure.result.test}"
            part = [] if is_ours else part
        if is_ours:
            part.append(line)
    if not part and failure.result.fault:
        part = list(failure.result.fault.lines)
    return "".join(f"{line}\n" for line in part)


def _qemu_command(failure: Failure) -> str:
    """The command that started the failure's machine: the last one in QEMU's log that started one of its kind, a
    restored or a booted one; the machines of a kind differ in file descriptors only."""
    is_restored = failure.result.machine.rpartition("/")[2].startswith("restored")
    commands = [line.removeprefix("$ ") for line in _log(failure, "qemu.log").splitlines() if line.startswith("$ ")]
    alike = [command for command in commands if (" -incoming " in command) is is_restored]
    command = (alike or commands or [""])[-1]
    return command[max(0, command.find(QEMU)) :]  # without what ends it with the harness
