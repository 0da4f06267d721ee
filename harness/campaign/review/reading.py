"""What a review is given: the series, in whatever form, an older version of it, and what both apply to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.build.gitrange import as_range, commit_in, patches_of_range
from harness.build.load_patches import load_version
from harness.campaign.request import ReviewRequest
from harness.errors import UserError
from harness.model.kernel import DEFAULT_SOURCE, Patch
from harness.model.review import SeriesName
from harness.parse.series import version_text
from harness.report.pairing import title_of

_VERSION = re.compile(r"v(\d{1,4})(?:\.(\d{1,4}))?", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Series:
    """Patches, and what is told of them. `base_commit`: what the series says that it applies to; `repository`: where
    its commits are; None if it is no range of commits."""

    name: SeriesName
    patches: tuple[Patch, ...]
    base_commit: str = ""
    repository: Path | None = None

    @property
    def titles(self) -> list[str]:
        return [title_of(patch) for patch in self.patches]


@dataclass(frozen=True, kw_only=True)
class Base:
    """What a series goes on top of: `spec` for --kernel, and `why` it is that."""

    spec: str
    why: str


def read_series(request: ReviewRequest) -> tuple[Series, Series | None]:
    """Return the series to review, and the older version if one is named. Raises UserError for what is no series."""
    newer = _read(request.series, request.version, request.repository)
    if not request.against:
        return newer, None
    is_version = _VERSION.fullmatch(request.against) and not Path(request.against).exists()
    source, version = (request.series, request.against) if is_version else (request.against, "")
    older = _read(source, version, request.repository)
    if [patch.sha256 for patch in older.patches] == [patch.sha256 for patch in newer.patches]:
        raise UserError(f"--against {request.against}: expected another version, found the very series to review")
    return newer, older


def _read(text: str, version: str, repository: Path) -> Series:
    if span := as_range(text):
        if version:
            raise UserError(f"--version {version}: {text} is a range of commits, which has no versions")
        place = Path(span[0]).expanduser() if span[0] else repository
        patches = patches_of_range(place.resolve(), span[1], span[2])
        return _series(text, patches, repository=place.resolve())
    return _series(text, load_version(Path(text).expanduser(), _parsed(version)))


def _parsed(version: str) -> tuple[int, int] | None:
    if not version:
        return None
    match = _VERSION.fullmatch(version)
    if match is None:
        raise UserError(f"--version: expected a version such as v5, found {version!r}")
    return int(match[1]), int(match[2] or 0)


def _series(text: str, patches: tuple[Patch, ...], *, repository: Path | None = None) -> Series:
    mailed = [patch.mailed for patch in patches if patch.mailed]
    base = next((each.base_commit for each in mailed if each.base_commit), "")
    versions = {each.version for each in mailed} if repository is None else set()
    version = version_text(next(iter(versions))) if len(versions) == 1 else ""
    title = title_of(patches[0])
    name = SeriesName(title=title, version=version, patches=len(patches), origin=text)
    return Series(name=name, patches=patches, base_commit=base, repository=repository)


def find_base(request: ReviewRequest, newer: Series, older: Series | None) -> tuple[Base, tuple[str, ...]]:
    """Return what to apply the series to, and notes about that. Raises UserError if the series names a commit that is
    nowhere to be found."""
    base = _base(request, newer)
    notes: tuple[str, ...] = ()
    if older and older.base_commit and newer.base_commit and older.base_commit != newer.base_commit:
        notes = (
            f"the older version was made for {older.base_commit[:12]}, the newer one for {newer.base_commit[:12]}: "
            "both are tested on the same base",
        )
    return base, notes


def _base(request: ReviewRequest, newer: Series) -> Base:
    if request.base:
        return Base(spec=request.base, why="--base")
    if newer.repository is not None and newer.base_commit:
        return Base(spec=f"git:{newer.repository}#{newer.base_commit}", why="the parent of the first commit")
    if newer.base_commit:
        repository = request.repository.resolve()
        if commit_in(repository, newer.base_commit):
            return Base(spec=f"git:{repository}#{newer.base_commit}", why="the base-commit that the series names")
        raise UserError(
            f"{newer.name.origin}: applies to the commit {newer.base_commit}, which {repository} does not have: name a "
            "repository that has it with --git, or another kernel with --base"
        )
    return Base(spec=DEFAULT_SOURCE, why="the default, because the series names none")


def notes_of(series: Sequence[Series]) -> tuple[str, ...]:
    """Return what was done to get the patches out of their mails."""
    return tuple(f"{title_of(patch)}: {note}" for each in series for patch in each.patches for note in patch.notes)
