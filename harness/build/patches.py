"""Bring a source tree to a patch series and back."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import stat
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.build.command import Finished, run
from harness.errors import InfraError, UserError
from harness.model.kernel import Patch
from harness.parse.diff import FileDiff, Hunk, parse_diff

_ABSENT = "absent"
_FORMAT = 1
_SCRATCH = ".harness-new"
_PATCH_TIMEOUT_S = 60.0


@dataclass(frozen=True, kw_only=True)
class _File:
    """Content and permission bits."""

    content: bytes
    mode: int


@dataclass(frozen=True, kw_only=True)
class _Record:
    """What the state directory says of the tree (``series.json``).

    `forms`: path → checksums that the file may have: the pristine one first, the one it has now last, and between
    them whatever a killed run may have left. `complete`: False from before the tree's first change to after the last.
    """

    series: tuple[str, ...] = ()
    forms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    complete: bool = True


def apply_series(tree: Path, patches: Sequence[Patch], *, state: Path) -> bool:
    """Bring `tree` from the series recorded in the directory `state` to exactly `patches`. True if a file changed.

    New contents are worked out beside the tree, always from the pristine files kept in `state`, and only files
    that then differ are replaced (by rename, so hard links elsewhere keep the old content; with a new mtime).
    A run that was killed is finished or taken back by the next call. One caller at a time: hold a lock.

    A file counts as pristine as it is when a series first touches it. Whoever renews the tree from its origin
    therefore first takes the series back: ``apply_series(tree, (), state=state)``.

    UserError: a patch does not apply or is unsafe; the tree is as before. InfraError: a file that the series holds
    was changed by somebody else. It is not healed, because either an edit or a newer source would silently be lost.
    """
    try:
        record = _load_record(state)
        # A directory stands where a series removed a file to make room for it.
        standing = {p: None if _is_directory(tree / p) else _read(tree, p, who=str(tree)) for p in record.forms}
        _refuse_foreign(tree, record, standing)
        series = tuple(patch.sha256 for patch in patches)
        settled = all(_digest(standing[path]) == forms[-1] for path, forms in record.forms.items())
        if record.complete and record.series == series and settled:
            return False
        overlay = _Overlay(tree, {path: _pristine(state, path, forms[0]) for path, forms in record.forms.items()})
        for patch in patches:
            overlay.apply(patch)
        return _bring(tree, overlay, standing, record=record, series=series, state=state)
    except OSError as error:
        raise InfraError(f"{tree}: the patch series can't be applied: {error}") from error


def patched_files(state: Path) -> dict[str, str]:
    """What the series recorded in the directory `state` touches: path → checksum of what it made of the file."""
    return {path: forms[-1] for path, forms in _load_record(state).forms.items()}


def _bring(
    tree: Path,
    overlay: _Overlay,
    standing: dict[str, _File | None],
    *,
    record: _Record,
    series: tuple[str, ...],
    state: Path,
) -> bool:
    """Write what differs, between two writes of the record, so that a kill at any point leaves all that is needed."""
    for path in sorted(overlay.files.keys() - standing.keys()):
        standing[path] = overlay.base[path]
        if (original := standing[path]) is not None:
            _write(state / "pristine" / path, original)
    wanted = {path: overlay.files.get(path, overlay.base[path]) for path in standing}
    pristine = {path: _digest(overlay.base[path]) for path in standing}
    forms = {path: (*record.forms.get(path, (pristine[path],)), _digest(file)) for path, file in wanted.items()}
    _save_record(state, _Record(series=(), forms=forms, complete=False))
    changed = [path for path in sorted(wanted) if wanted[path] != standing[path]]
    for path in standing:  # what a killed run left
        with contextlib.suppress(NotADirectoryError):
            _scratch(tree / path).unlink(missing_ok=True)
    for path in changed:  # removals first: a file may make room for a directory
        if wanted[path] is None:
            _remove(tree / path, top=tree)
    for path in changed:
        if (file := wanted[path]) is not None:
            _write(tree / path, file)
    done = {path: (pristine[path], _digest(wanted[path])) for path in overlay.files}
    _save_record(state, _Record(series=series, forms=done))
    for path in sorted(standing.keys() - overlay.files.keys(), reverse=True):
        _remove(state / "pristine" / path, top=state)
    return bool(changed)


def _refuse_foreign(tree: Path, record: _Record, standing: Mapping[str, _File | None]) -> None:
    foreign = sorted(path for path, forms in record.forms.items() if _digest(standing[path]) not in forms)
    if foreign:
        raise InfraError(
            f"{tree}: {foreign[0]}: expected the file as the last patch series left it, found it changed since: "
            "put it back, or remove this tree and its state to start afresh",
            details=foreign,
        )


def _load_record(state: Path) -> _Record:
    file = state / "series.json"
    if not file.exists():
        return _Record()
    try:
        data = json.loads(file.read_bytes())
        if data["format"] != _FORMAT:
            raise ValueError(f"format {data['format']}")
        forms = {str(path): tuple(map(str, values)) for path, values in data["forms"].items()}
        return _Record(series=tuple(data["series"]), forms=forms, complete=data["complete"] is True)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InfraError(
            f"{file}: expected the record of a patch series (format {_FORMAT}), found {error}: "
            "remove the source tree and this state to start afresh"
        ) from error


def _save_record(state: Path, record: _Record) -> None:
    data = {"format": _FORMAT, "complete": record.complete, "series": record.series, "forms": dict(record.forms)}
    _write(state / "series.json", _File(content=json.dumps(data, indent=1).encode(), mode=0o644))


def _pristine(state: Path, path: str, digest: str) -> _File | None:
    file = None if digest == _ABSENT else _read(state / "pristine", path, who=str(state))
    if _digest(file) != digest:
        raise InfraError(
            f"{state}: {path}: expected the pristine copy of the file, found it lost or changed: "
            "remove the source tree and this state to start afresh"
        )
    return file


def _digest(file: _File | None) -> str:
    return _ABSENT if file is None else hashlib.sha256(file.content).hexdigest()


def _read(tree: Path, path: str, *, who: str) -> _File | None:
    """A file below `tree`; None where there is none. UserError, in the name of `who`, for a path that leaves the
    tree (or might) through a symbolic link."""
    at = tree
    for part in path.split("/"):
        at = at / part
        if at.is_symlink():
            raise UserError(f"{who}: {path}: expected a path of plain directories, found the symbolic link {at.name}")
    if at.is_dir():
        raise UserError(f"{who}: {path}: expected a file, found a directory in the source tree")
    try:
        return _File(content=at.read_bytes(), mode=stat.S_IMODE(at.stat().st_mode))
    except (FileNotFoundError, NotADirectoryError):
        return None


def _is_directory(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _scratch(path: Path) -> Path:
    return path.with_name(f".{path.name}{_SCRATCH}")


def _write(path: Path, file: _File) -> None:
    """Replace `path` as a whole; never writes into the old file, which may have other names elsewhere.

    Not synced: what a power cut damages has the wrong checksum, and is refused by the next call.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = _scratch(path)
    scratch.write_bytes(file.content)
    scratch.chmod(file.mode)
    scratch.replace(path)


def _remove(path: Path, *, top: Path) -> None:
    """Remove a file, and the directories below `top` that this leaves empty."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        path.unlink()
    for parent in path.parents:
        if parent == top or (parent.is_dir() and any(parent.iterdir())):
            return
        if parent.is_dir():
            parent.rmdir()


class _Overlay:
    """The tree as a series makes it, held in memory: `base` are pristine files, `files` what patches made of them."""

    def __init__(self, tree: Path, base: dict[str, _File | None]) -> None:
        self.tree = tree
        self.base = base
        self.files: dict[str, _File | None] = {}

    def apply(self, patch: Patch) -> None:
        """Apply all of one patch. As git means it: renames and copies take files as they were before the patch."""
        diffs = parse_diff(patch.text, name=patch.name)
        gone = {diff.old for diff in diffs if diff.old and diff.old != diff.new and not diff.copy}
        made: dict[str, _File | None] = {}
        for diff in diffs:
            who = f"{patch.name}: {diff.path}"
            source = self._source(diff, made, patch=patch)
            content = _patched(source.content if source else b"", diff, who=who)
            target = self._read(diff.new, patch) if diff.new and diff.new != diff.old else None
            if target and target.content and diff.new not in gone:
                raise _exists(who, same=target.content == content)
            if diff.new is not None:
                made[diff.new] = _File(content=content, mode=_mode(diff, source, who=who))
            elif content:
                raise UserError(
                    f"{who}: expected the whole file in the patch that deletes it, found other lines in the file: "
                    "rebase the patch onto this source",
                    details=content.decode("utf-8", "replace").split("\n")[:10],
                )
        self.files |= dict.fromkeys(gone - made.keys()) | made

    def _read(self, path: str, patch: Patch) -> _File | None:
        if path in self.files:
            return self.files[path]
        if path not in self.base:
            self.base[path] = _read(self.tree, path, who=patch.name)
        return self.base[path]

    def _source(self, diff: FileDiff, made: Mapping[str, _File | None], *, patch: Patch) -> _File | None:
        """What the diff starts from; None for a new file."""
        if diff.old is None:
            return None
        source = made.get(diff.old) if diff.old == diff.new else None
        source = source or self._read(diff.old, patch)
        if source is not None:
            return source
        hint = "is this patch for another version?"
        if diff.new is None or (diff.new != diff.old and self._read(diff.new, patch)):
            hint = "the patch seems to be already applied"
        elif any(
            (self.tree / top / diff.old).is_file() for top in re.findall(r"^--- (\w+)/", patch.text, re.MULTILINE)
        ):
            hint = "its paths seem to lack the prefixes a/ and b/; list it in a quilt series with the option -p0"
        raise UserError(f"{patch.name}: {diff.old}: expected this file in the source, found no such file: {hint}")


def _mode(diff: FileDiff, source: _File | None, *, who: str) -> int:
    """Permission bits after the patch. Git knows only executable or not; the others stay."""
    if diff.mode is None:
        return source.mode if source else 0o644
    if stat.S_IFMT(diff.mode) != stat.S_IFREG:
        raise UserError(f"{who}: expected a regular file, found mode {diff.mode:o} (a symbolic link or submodule)")
    if source is None:
        return 0o755 if diff.mode & 0o111 else 0o644
    return source.mode | 0o111 if diff.mode & 0o111 else source.mode & ~0o111


def _exists(who: str, *, same: bool) -> UserError:
    hint = "with the same content: the patch seems to be already applied" if same else "with other content"
    return UserError(f"{who}: expected no such file yet, since the patch creates it, found one {hint}")


# --- patch(1) ---------------------------------------------------------------------------------------------------


def _patched(source: bytes, diff: FileDiff, *, who: str) -> bytes:
    """The file's content after the diff's hunks, by patch(1): it may shift and fuzz hunks as kernel developers
    are used to. It gets neutral file names, so that no path in a patch means anything to it."""
    if not diff.hunks:
        return source
    with tempfile.TemporaryDirectory(prefix="harness-patch-") as name:
        scratch = Path(name)
        (scratch / "in").write_bytes(source)
        body = "".join(f"{line}\n" for hunk in diff.hunks for line in (hunk.header, *hunk.lines))
        (scratch / "diff").write_bytes(f"--- in\n+++ in\n{body}".encode("utf-8", "surrogateescape"))
        done = _run_patch(scratch)
        if done.status == 0:
            return (scratch / "out").read_bytes()
        if _run_patch(scratch, "--reverse", "--dry-run", "--fuzz=0").status == 0:
            raise UserError(
                f"{who}: expected the file without this change, found it: the patch seems to be already applied"
            )
    raise _failure(source, diff, output=done.stdout + done.stderr, who=who)


def _run_patch(scratch: Path, *options: str) -> Finished:
    # --force, not --batch: that one turns a patch round which looks applied, and takes its change out of the tree.
    fixed = ("--force", "--no-backup-if-mismatch", "--reject-file=rej", "--output=out")
    return run(["patch", *fixed, *options, "in", "diff"], cwd=scratch, timeout=_PATCH_TIMEOUT_S)


def _failure(source: bytes, diff: FileDiff, *, output: str, who: str) -> UserError:
    failed = [int(number) for number in re.findall(r"^Hunk #(\d+) FAILED", output, re.MULTILINE)]
    if not failed:
        return UserError(f"{who}: expected a diff that patch(1) takes, found an error", details=output.split("\n"))
    hunk = diff.hunks[failed[0] - 1]
    shifts = re.findall(r"^Hunk #(\d+) succeeded at .*\(offset (-?\d+) lines?\)", output, re.MULTILINE)
    shift = next((int(by) for number, by in reversed(shifts) if int(number) < failed[0]), 0)
    lines = source.decode("utf-8", "replace").removesuffix("\n").split("\n")
    at = _likeliest(hunk.expected, lines, near=max(hunk.start - 1 + shift, 0))
    found = lines[at : at + len(hunk.expected)]
    reason = "the file's lines are not those that the patch expects; rebase the patch onto this source"
    if _blankless(found) == _blankless(hunk.expected):
        reason = "only white space or line ends differ; get the patch again, unharmed (not pasted)"
    others = f" (nor do hunks {', '.join(map(str, failed[1:]))})" if failed[1:] else ""
    return UserError(
        f"{who}: hunk {failed[0]} ({hunk.header}) does not apply{others}: {reason}",
        details=_compared(hunk, found, at=at),
    )


def _compared(hunk: Hunk, found: Sequence[str], *, at: int) -> list[str]:
    """Both sides, for reading; ``>`` marks lines that differ."""
    expected = hunk.expected
    marks = ["  " if line == (expected[n] if n < len(expected) else None) else "> " for n, line in enumerate(found)]
    return [
        f"expected by the patch at line {hunk.start}:",
        *(f"  {line}" for line in expected),
        f"found in the file at line {at + 1}:" if found else f"found: the file has no line {at + 1}",
        *(mark + line for mark, line in zip(marks, found, strict=True)),
    ]


def _likeliest(expected: Sequence[str], lines: Sequence[str], *, near: int) -> int:
    """The index in `lines` where most of `expected` is found, the one nearest to `near` among equals."""

    def likeness(at: int) -> tuple[int, int]:
        there = lines[at : at + len(expected)]
        same = sum(a == b for a, b in zip(expected, there, strict=False) if a.strip())
        return same, -abs(at - near)

    best = max(range(len(lines)), key=likeness)
    return best if likeness(best)[0] else near


def _blankless(lines: Iterable[str]) -> list[str]:
    return ["".join(line.split()) for line in lines]
