"""A range of commits: which there are and what each carries, and git bisect's own record of the search.

What is believed is in the search's record. After each step git bisect is told which commits are settled, in a worktree
of its own, so that a person can go on from there with git alone."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.build.command import run
from harness.build.gitrepo import COMMIT, OPTIONS, QUERY_TIMEOUT_S, QUIET
from harness.errors import InfraError, UserError
from harness.model.bisect import Change, Range, RangeKind
from harness.report.text import one_line

MOST_COMMITS = 20_000


@dataclass(frozen=True)
class Repository:
    """A git repository on this host."""

    path: Path

    def git(self, *words: str, where: Path | None = None) -> str:
        """Run git and return what it says. Raises InfraError if it fails."""
        done = run(["git", "-C", where or self.path, *OPTIONS, *words], timeout=QUERY_TIMEOUT_S, env=QUIET)
        if done.status != 0:
            raise InfraError(f"{self.path}: git {words[0]} failed", details=done.last_lines())
        return done.stdout

    def commit(self, option: str, name: str) -> str:
        """Return the hash of the commit that an option names. Raises UserError."""
        words = ["rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}"]
        done = run(["git", "-C", self.path, *OPTIONS, *words], timeout=QUERY_TIMEOUT_S, env=QUIET)
        if "dubious ownership" in done.stderr:
            raise UserError(
                f"{self.path}: belongs to another user, so git refuses to read it; allow it: "
                f"git config --global --add safe.directory {self.path}"
            )
        if not COMMIT.fullmatch(done.stdout.strip()):
            raise UserError(f"{option}: expected a commit of {self.path}, found {name!r}")
        return done.stdout.strip()

    def range(self, good: str, bad: str, *, first_parent: bool) -> Range:
        """Return the commits that `bad` has and `good` has not. Raises UserError if there are none, or too many."""
        base = run(
            ["git", "-C", self.path, *OPTIONS, "merge-base", good, bad], timeout=QUERY_TIMEOUT_S, env=QUIET
        ).stdout
        if base.strip() != good:
            hint = (
                f"they parted at {base.strip()[:12]}; name that as --good" if base.strip() else "they share no history"
            )
            raise UserError(f"--good: expected an ancestor of --bad, found another branch: {hint}")
        options = ["--first-parent"] if first_parent else []
        told = self.git("log", "--topo-order", "--reverse", *options, "--format=%H%x00%P%x00%s", f"{good}..{bad}")
        commits = [line.split("\0") for line in told.splitlines() if line.count("\0") == 2]
        if not commits:
            raise UserError("--bad: expected commits that --good has not, found none")
        if len(commits) > MOST_COMMITS:
            raise UserError(f"--good, --bad: at most {MOST_COMMITS} commits between them, found {len(commits)}")
        return Range(
            kind=RangeKind.GIT,
            good=good[:12],
            changes=tuple(Change(name=commit, title=one_line(title, 100)) for commit, _, title in commits),
            states=carried(
                [(commit, parents.split()[: 1 if first_parent else None]) for commit, parents, _ in commits]
            ),
        )

    def reverse_of(self, commit: str) -> str:
        """Return the diff that takes a commit back; empty for a merge, which has several."""
        parents = self.git("rev-list", "--parents", "-n1", commit).split()[1:]
        if len(parents) != 1:
            return ""
        return self.git(
            "diff", "--binary", "--no-color", "--no-ext-diff", "--no-textconv", "--full-index", commit, parents[0]
        )


def carried(commits: Sequence[tuple[str, Sequence[str]]]) -> tuple[int, ...]:
    """Return what the good end carries, and then each of `commits`, which are (hash, parents), parents first: itself
    and what its ancestors do."""
    states: dict[str, int] = {}
    for number, (commit, parents) in enumerate(commits):
        states[commit] = 1 << number
        for parent in parents:
            states[commit] |= states.get(parent, 0)
    return (0, *states.values())


class Journal:
    """git bisect's record of a search, in a worktree at `directory`."""

    def __init__(self, repository: Repository, directory: Path, *, good: str, bad: str, first_parent: bool) -> None:
        self._repository = repository
        self._directory = directory
        self._good = good
        self._bad = bad
        self._first_parent = first_parent
        self._told: list[str] = []

    def tell(self, terms: Mapping[str, str], notes: Mapping[str, str]) -> str:
        """Have git bisect know which commits are good, bad or to be skipped (`terms`), and return its log, with `notes`
        on them as comments. Does nothing but return the log if it knows that already."""
        words = [f"git bisect {term} {commit}" for commit, term in terms.items()]
        if words != self._told:
            self._begin()
            for commit, term in terms.items():
                self._bisect(term, commit)
            self._told = words
        lines = ["# made by harness bisect; go on from it with: git bisect replay THIS-FILE"]
        lines += [f"git bisect start{' --first-parent' if self._first_parent else ''}"]
        for word in words:
            note = notes.get(word.split()[-1], "")
            lines += [*([f"# {one_line(note)}"] if note else []), word]
        return "\n".join(lines) + "\n"

    def _begin(self) -> None:
        """Make the worktree if there is none, and begin anew in it."""
        git = self._repository.git
        if not (self._directory / ".git").exists():
            shutil.rmtree(self._directory, ignore_errors=True)
            git("worktree", "prune")
            git("worktree", "add", "--quiet", "--detach", "--no-checkout", str(self._directory), self._bad)
        options = ["--first-parent"] if self._first_parent else []
        git("bisect", "start", "--no-checkout", *options, where=self._directory)

    def _bisect(self, term: str, commit: str) -> None:
        """Say one word to git bisect. That nothing is left to test, or that only skipped commits are, is no error."""
        words: list[str | Path] = ["git", "-C", self._directory, *OPTIONS, "bisect", term, commit]
        done = run(words, timeout=QUERY_TIMEOUT_S, env=QUIET)
        if done.status not in (0, 2):
            raise InfraError(f"{self._directory}: git bisect {term} {commit[:12]} failed", details=done.last_lines())
