"""Which patches of two series are versions of each other, as git range-diff pairs them.

Both series are made into commits in a repository of their own, which holds only the files that they touch, and git is
run there without the user's or the host's configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from harness.build.cache import scratch_dir
from harness.build.command import Finished, run
from harness.build.gitrepo import OPTIONS, QUERY_TIMEOUT_S, QUIET
from harness.build.sourcetree import Tried
from harness.build.treefiles import TreeFile
from harness.errors import InfraError
from harness.model.review import Pair
from harness.parse.rangediff import parse_range_diff
from harness.report.pairing import title_of

_ALONE = {**QUIET, "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_ATTR_NOSYSTEM": "1"}
_LIMIT_S = 600.0
_WHO = b"harness <harness@localhost> 946684800 +0000\n"


def range_diff(older: Sequence[Tried], newer: Sequence[Tried]) -> tuple[Pair, ...]:
    """Return the pairs of two series that apply to the same kernel. Raises InfraError if git fails."""
    with scratch_dir("range-diff") as directory:
        _git(directory, "init", "--quiet", "--template=", ".")
        stream = directory / "stream"
        with stream.open("wb") as file:
            file.writelines(_stream(older, newer))
        with stream.open("rb") as file:
            done = run(
                ["git", "-C", directory, *OPTIONS, "fast-import", "--quiet"], timeout=_LIMIT_S, env=_ALONE, stdin=file
            )
        if done.status:
            raise InfraError("git fast-import: can't make commits of two series", details=done.last_lines())
        told = _git(directory, "range-diff", "--no-color", "--no-patch", "base..older", "base..newer")
    return parse_range_diff(told.stdout)


def _git(directory: Path, *words: str) -> Finished:
    done = run(["git", "-C", directory, *OPTIONS, *words], timeout=max(_LIMIT_S, QUERY_TIMEOUT_S), env=_ALONE)
    if done.status:
        raise InfraError(f"git {words[0]}: can't compare two series", details=done.last_lines())
    return done


def _stream(older: Sequence[Tried], newer: Sequence[Tried]) -> Iterator[bytes]:
    """What git fast-import reads."""
    yield from _commit("base", "base", _first(older, newer), mark=1)
    mark = 1
    for name, series in (("older", older), ("newer", newer)):
        for number, each in enumerate(series):
            parent = mark if number else 1
            mark += 1
            yield from _commit(name, title_of(each.patch), each.after, mark=mark, parent=parent)


def _first(older: Sequence[Tried], newer: Sequence[Tried]) -> dict[str, TreeFile | None]:
    """The files as they are before either series: as the first patch of one that touches them finds them."""
    found: dict[str, TreeFile | None] = {}
    for each in (*reversed(newer), *reversed(older)):
        found |= each.before
    return found


def _commit(
    branch: str, title: str, files: Mapping[str, TreeFile | None], *, mark: int, parent: int = 0
) -> Iterator[bytes]:
    message = " ".join(title.split()).encode("utf-8", "replace") or b"-"
    yield f"commit refs/heads/{branch}\nmark :{mark}\n".encode() + b"committer " + _WHO
    yield b"data %d\n%b\n" % (len(message), message)
    if parent:
        yield f"from :{parent}\n".encode()
    for path, file in files.items():
        if file is None:
            yield b"D " + _quoted(path) + b"\n"
    for path, file in files.items():
        if file is not None:
            mode = b"120000" if file.is_link else b"100755" if file.mode & 0o111 else b"100644"
            yield b"M %b inline %b\ndata %d\n" % (mode, _quoted(path), len(file.content))
            yield file.content
            yield b"\n"


def _quoted(path: str) -> bytes:
    raw = path.encode("utf-8", "surrogateescape")
    return b'"' + raw.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n") + b'"'
