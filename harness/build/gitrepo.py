"""Kernel sources from git: one bare, shallow cache repository for each URL; commits are fetched one by one."""

from __future__ import annotations

import contextlib
import difflib
import functools
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

from harness.build import gitpartial
from harness.build.cache import cache_dir, locked
from harness.build.command import Finished, run, shown
from harness.build.tree import makefile_version
from harness.build.treelinks import link_target, stays_inside
from harness.errors import HarnessError, InfraError, UserError
from harness.model.kernel import Source, SourceSpec
from harness.model.progress import Progress

QUERY_TIMEOUT_S = 120.0
FETCH_TIMEOUT_S = 3600.0
_SHOWN_BYTES = 16 << 10
_MOST_NAMED = 4  # files that a message names
COMMIT = re.compile(r"[0-9a-f]{40}")
# Never ask for a password: if nobody is there, the command would wait for ever.
QUIET = {"GIT_TERMINAL_PROMPT": "0", "GIT_SSH_COMMAND": os.environ.get("GIT_SSH_COMMAND", "ssh -o BatchMode=yes")}
# No background maintenance, which would outlive the harness. No line-end conversion, or patches would not apply.
OPTIONS = ("-c", "gc.auto=0", "-c", "maintenance.auto=false", "-c", "core.autocrlf=false", "-c", "core.hooksPath=")
KEPT = "refs/harness/"
"""Below it are the fetched refs under their original names, so that they are found again without a network."""


def fetch_commit(spec: SourceSpec, *, progress: Progress) -> Source:
    """Fetch the commit that `spec` names into the cache repository. A full commit hash that is there already needs no
    network.

    Raises UserError when the repository has no such ref (naming some it has) or the commit holds no kernel.
    """
    if Path(spec.location).is_dir():
        progress.say(f"{spec.location}: taking the commit {spec.ref}; uncommitted changes there are left out")
    key = hashlib.sha256(spec.location.encode()).hexdigest()[:24]
    repository = cache_dir("git") / f"{key}.git"
    with locked(repository.with_suffix(".lock")):
        _init(repository)
        name = commit = spec.ref
        if not COMMIT.fullmatch(spec.ref):
            name, commit = _look_up(repository, spec, progress=progress)
        if not _has(repository, commit):
            commit = _fetch(repository, spec, name, commit, progress=progress)
        else:
            _complete(repository, spec, commit)
        version = _version(repository, spec, commit, name)
        partial = gitpartial.standing(functools.partial(_git, repository), commit)
    if partial is None:
        return Source(spec=spec, identity=commit, path=repository, version=version, checksum=commit)
    some = ", ".join(partial.absent[:_MOST_NAMED])
    more = f" and {len(partial.absent) - _MOST_NAMED} more" if len(partial.absent) > _MOST_NAMED else ""
    progress.say(f"{spec.location}: lacks the content of {len(partial.absent)} files, left out: {some}{more}")
    return Source(
        spec=spec, identity=partial.tree, path=repository, version=version, checksum=commit, absent=partial.absent
    )


def check_out(source: Source, tree: Path, *, progress: Progress) -> None:
    """Check out the commit into `tree`. With our own index beside it, unchanged files keep their times."""
    index = tree.parent / "source.index"
    tree.mkdir(parents=True, exist_ok=True)
    index.with_name("source.index.lock").unlink(missing_ok=True)

    def tick() -> None:
        progress.advance(f"checking out {source.version}", 0, None)

    def git(*words: str, names: bool = False) -> Finished:
        return _git(
            source.path,
            f"--work-tree={tree}",
            *words,
            timeout=FETCH_TIMEOUT_S,
            env={"GIT_INDEX_FILE": str(index)},
            tick=tick,
            names=names,
        )

    done = git("read-tree", "--reset", "-u", source.identity)
    if done.status != 0:
        # An index that a crash left half written must not block every later run.
        index.unlink(missing_ok=True)
        shutil.rmtree(tree, ignore_errors=True)
        tree.mkdir()
        done = git("read-tree", "--reset", "-u", source.identity)
    if done.status == 0:
        done = git("clean", "-ffdxq")
    if done.status != 0:
        raise InfraError(f"{tree}: git cannot check out {source.identity}", details=done.last_lines())
    listed = git("ls-tree", "-r", "-z", "--full-tree", source.identity, names=True).stdout
    if left_out := _remove_links_out(tree, listed):
        some = ", ".join(map(shown, left_out[:8]))
        progress.say(f"{source.spec.text}: left out links that lead out of the tree: {some}")


def _remove_links_out(tree: Path, listed: str) -> list[str]:
    """Remove the links among the files `listed` by ls-tree that lead out of the tree, and return their paths."""
    entries = (entry.partition("\t") for entry in listed.split("\0"))
    links = [path for told, _, path in entries if told.startswith("120000 ")]
    targets = {path: target for path in links if (target := link_target(tree, path)) is not None}
    out = [path for path in targets if not stays_inside(path, targets[path], functools.partial(link_target, tree))]
    for path in out:
        (tree / path).unlink()
    return out


def _git(
    repository: Path,
    *words: str,
    timeout: float = QUERY_TIMEOUT_S,
    env: Mapping[str, str] | None = None,
    stdin: IO[bytes] | None = None,
    output: IO[bytes] | None = None,
    tick: Callable[[], None] | None = None,
    names: bool = False,
) -> Finished:
    return run(
        ["git", f"--git-dir={repository}", *OPTIONS, *words],
        timeout=timeout,
        env={**QUIET, **(env or {})},
        stdin=stdin,
        output=output,
        tick=tick,
        names=names,
    )


def _init(repository: Path) -> None:
    done = run(["git", "init", "--quiet", "--bare", repository], timeout=QUERY_TIMEOUT_S)
    if done.status != 0:
        raise InfraError(f"{repository}: git cannot make its cache there", details=done.last_lines())


def _has(repository: Path, commit: str) -> bool:
    return _git(repository, "cat-file", "-e", f"{commit}^{{commit}}").status == 0


def _look_up(repository: Path, spec: SourceSpec, *, progress: Progress) -> tuple[str, str]:
    """Look up the full name of the ref and its current commit; tags win over branches, as in git."""
    done = _git(repository, "ls-remote", "--", spec.location)
    if done.status != 0:
        return _look_up_offline(repository, spec, done, progress=progress)
    refs = {name: commit for commit, name in (line.split("\t") for line in done.stdout.splitlines() if "\t" in line)}
    for name in _candidates(spec.ref):
        if name in refs:
            return name, refs.get(f"{name}^{{}}", refs[name])
    raise _no_such_ref(spec, refs)


def _candidates(ref: str) -> tuple[str, ...]:
    return (ref, f"refs/{ref}", f"refs/tags/{ref}", f"refs/heads/{ref}")


def _look_up_offline(repository: Path, spec: SourceSpec, done: Finished, *, progress: Progress) -> tuple[str, str]:
    """Look it up among the refs that were fetched earlier."""
    if not Path(spec.location).exists():
        for name in _candidates(spec.ref):
            kept = _git(repository, "rev-parse", "--verify", "--quiet", f"{KEPT}{name}^{{commit}}").stdout.strip()
            if kept:
                progress.say(f"{spec.location}: not reachable; continuing with {spec.ref} as fetched earlier: {kept}")
                return name, kept
    raise _unreachable(spec, done)


def _fetch(repository: Path, spec: SourceSpec, name: str, commit: str, *, progress: Progress) -> str:
    """Fetch the one commit and return its hash (a branch may have moved since `commit` was looked up)."""
    progress.say(f"fetching {spec.ref} of {spec.location}")
    log = repository / "fetch.log"

    def tick() -> None:
        percent = re.findall(r"Receiving objects: +(\d{1,3})%", _end_of(log))
        progress.advance(f"fetching {spec.ref}", int(percent[-1]) if percent else 0, 100 if percent else None)

    kept = KEPT + ("commit/" + name if COMMIT.fullmatch(name) else name)
    words = ["fetch", "--progress", "--no-tags", "--depth=1", "--", spec.location, f"+{name}:{kept}"]
    with log.open("wb") as output:
        status = _git(repository, *words, timeout=FETCH_TIMEOUT_S, output=output, tick=tick).status
    if status != 0:
        said = Finished(status=status, stdout="", stderr=re.sub(r".*\r", "", _end_of(log)))
        if re.search(r"not our ref|unadvertised object|couldn't find remote ref", said.stderr):
            raise UserError(f"{spec.text}: the repository has no {spec.ref}", details=said.last_lines())
        if gitpartial.LACKS_OBJECTS.search(said.stderr) and Path(spec.location).is_dir():
            git, theirs = (functools.partial(_git, each) for each in (repository, _git_directory(spec)))
            gitpartial.take(repository, git, theirs, commit, timeout=FETCH_TIMEOUT_S)
            return commit
        raise _unreachable(spec, said)
    return _git(repository, "rev-parse", f"{kept}^{{commit}}").stdout.strip()


def _complete(repository: Path, spec: SourceSpec, commit: str) -> None:
    """Fetch what the repository lacked of the commit, if it is still there and has it now."""
    git = functools.partial(_git, repository)
    if gitpartial.standing(git, commit) is not None and Path(spec.location).is_dir():
        with contextlib.suppress(HarnessError):  # it is no repository any more
            theirs = functools.partial(_git, _git_directory(spec))
            gitpartial.complete(repository, git, theirs, commit, timeout=FETCH_TIMEOUT_S)


def _git_directory(spec: SourceSpec) -> Path:
    """Return the git directory of a repository on this host, from which git could fetch other commits."""
    words = ["git", "-C", spec.location, "rev-parse", "--absolute-git-dir"]
    done = run(words, timeout=QUERY_TIMEOUT_S, names=True)
    if done.status != 0:
        raise _unreachable(spec, done)
    return Path(done.stdout.strip())


def _end_of(log: Path) -> str:
    """The last of what git printed: the server decides how much that is."""
    with log.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _SHOWN_BYTES))
        return file.read().decode(errors="replace")


def _version(repository: Path, spec: SourceSpec, commit: str, name: str) -> str:
    """Return the tag, or the Makefile's version with the commit, as ``7.3.0-rc2-g0123456789ab``."""
    version = makefile_version(_git(repository, "show", f"{commit}:Makefile").stdout)
    arm64 = _git(repository, "cat-file", "-e", f"{commit}:arch/arm64").status == 0
    if version is None or not arm64:
        wanted = "arch/arm64" if version else "a Makefile with VERSION and PATCHLEVEL"
        raise UserError(f"{spec.text}: not a kernel source tree: expected {wanted} in commit {commit[:12]}")
    if name.startswith("refs/tags/"):
        return name.removeprefix("refs/tags/")
    return f"{version}-g{commit[:12]}"


def _no_such_ref(spec: SourceSpec, refs: Mapping[str, str]) -> UserError:
    short = [re.sub(r"^refs/(heads|tags)/", "", name) for name in refs if not name.endswith("^{}")]
    names = [name for name in short if not name.startswith("refs/")]
    near = difflib.get_close_matches(spec.ref, names, n=5, cutoff=0.5)
    some = list(dict.fromkeys([*near, *names[:3], *names[-5:]]))
    hint = "; of a commit write all 40 digits" if re.fullmatch(r"[0-9a-f]{7,39}", spec.ref) else ""
    return UserError(
        f"{spec.text}: the repository has no branch or tag {spec.ref!r}{hint}; "
        f"{'there are: ' + ', '.join(some[:10]) if some else 'it has none at all'}"
    )


def _unreachable(spec: SourceSpec, done: Finished) -> HarnessError:
    if "dubious ownership" in done.stderr:
        return UserError(
            f"{spec.location}: belongs to another user, so git refuses to read it; allow it: "
            f"git config --global --add safe.directory {spec.location}"
        )
    if re.search(r"does not appear to be a git repository|repository .* not found", done.stderr, re.I):
        return UserError(f"{spec.text}: there is no git repository at {spec.location}", details=done.last_lines())
    return InfraError(f"{spec.location}: git cannot reach it; check the network", details=done.last_lines())
