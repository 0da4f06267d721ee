"""The directory of a search.

    search.json    what was tried, and what came out; replaced after each repetition
    runs/N-…/      each run, as `harness run` leaves it
    git/           for a range of commits: a worktree in which git bisect has the same state
    git-bisect.log the same as a log that `git bisect replay` takes
    patches/       for a series: its patches, numbered
    answer.txt, answer.json

A search that was killed, however it was, goes on from search.json; builds are in the cache."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness import jsonfile, shortage
from harness.build.checksum import write_atomically
from harness.errors import InfraError, UserError
from harness.lockfile import locked_file
from harness.model.bisect import Progressed
from harness.parse.bisect_state import progress_from_json, progress_to_json

SEARCH, RUNS, GIT, LOG, PATCHES = "search.json", "runs", "git", "git-bisect.log", "patches"
ANSWER = "answer"


@dataclass(frozen=True)
class Place:
    """The directory of one search."""

    root: Path

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep other searches away from it. Raises InfraError if there is one."""
        with shortage.reported(self.root, needed="some MiB for a search's records"):
            try:
                self.root.mkdir(parents=True, exist_ok=True)
            except (FileExistsError, NotADirectoryError):
                raise UserError(f"--out: expected a directory at {self.root}, found something else") from None
            file = locked_file(self.root / ".lock", wait=False)
        if file is None:
            raise InfraError(f"{self.root}: a search is going on there in another process; wait for its end")
        try:
            yield
        finally:
            os.close(file)

    def begun(self, identity: str) -> Progressed:
        """Return what was done of a search so far. Raises UserError if the directory has the search for an answer to
        another question, or a record that can't be read."""
        path = self.root / SEARCH
        try:
            progress = progress_from_json(jsonfile.read_object(path))
        except FileNotFoundError:
            return Progressed(identity=identity)
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: expected the record of a search, found: {error}; name another --out") from None
        if progress.identity != identity:
            raise UserError(
                f"{self.root}: has the search for another test, range or configuration; name another directory with "
                "--out, or remove this one"
            )
        return progress

    def save(self, progress: Progressed) -> None:
        """Put a search on the disk, all of it or nothing."""
        self.write(SEARCH, json.dumps(progress_to_json(progress), indent=1))

    def write(self, name: str, text: str) -> None:
        with shortage.reported(self.root, kept="the search as it was before; the same command continues it"):
            write_atomically(self.root / name, text)

    def new_run(self, name: str) -> Path:
        """Return a directory for the next run."""
        runs = self.root / RUNS
        runs.mkdir(exist_ok=True)
        numbers = [int(path.name.partition("-")[0]) for path in runs.glob("[0-9]*-*")]
        return runs / f"{max(numbers, default=0) + 1:03}-{name}"
