"""`harness.build.gitrepo`: kernels out of real git repositories, small ones."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from harness.build import gitrepo
from harness.build.materialize import forget, materialize
from harness.build.source import parse_source_spec, resolve_source
from harness.errors import InfraError, UserError
from harness.model.kernel import Source
from tests.faults.catalogue import Blame, fault
from tests.unit.toytree import Recorder, make_tree


class Upstream:
    """A repository that somebody works in."""

    def __init__(self, path: Path) -> None:
        self.path = make_tree(path)
        self.git("init", "--quiet", "--initial-branch=master")
        self.first = self.commit("first")
        self.git("tag", "-a", "-m", "seven", "v7.3.4")

    def git(self, *words: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        return subprocess.run(
            ["git", *who, *words], cwd=self.path, check=True, capture_output=True, text=True
        ).stdout.strip()

    def commit(self, message: str, **files: str) -> str:
        for name, text in files.items():
            (self.path / name.replace("__", "/")).write_text(text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "-m", message)
        return self.git("rev-parse", "HEAD")

    def resolve(self, ref: str, *, progress: Recorder | None = None) -> Source:
        return resolve_source(parse_source_spec(f"git:{self.path}#{ref}"), progress=progress)


@pytest.fixture
def upstream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Upstream:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    return Upstream(tmp_path / "upstream")


def test_an_annotated_tag_means_its_commit_and_gives_the_version(upstream: Upstream) -> None:
    source = upstream.resolve("v7.3.4")
    assert source.identity == source.checksum == upstream.first
    assert source.version == "v7.3.4"
    assert upstream.resolve("v7.3.4") == source


def test_a_branch_means_what_it_points_to_now(upstream: Upstream) -> None:
    assert upstream.resolve("master").version == f"7.3.4-g{upstream.first[:12]}"
    second = upstream.commit("second", kernel__sched="int sched2;\n")
    assert upstream.resolve("master").identity == second


def test_a_tag_wins_over_a_branch_of_the_same_name(upstream: Upstream) -> None:
    upstream.commit("second", README="x\n")
    upstream.git("branch", "v7.3.4")
    assert upstream.resolve("v7.3.4").identity == upstream.first
    assert upstream.resolve("refs/heads/v7.3.4").identity != upstream.first


class TestARepositoryThatLacksFiles:
    """As mirrors do, which leave out large ones."""

    def lacking(self, upstream: Upstream, *paths: str) -> str:
        """Commit the files, lose their content, and return the commit."""
        commit = upstream.commit("large", **{path: f"{path}\n" * 3 for path in paths})
        for path in paths:
            blob = upstream.git("rev-parse", f"HEAD:{path.replace('__', '/')}")
            (upstream.path / ".git/objects" / blob[:2] / blob[2:]).unlink()
        return commit

    def test_its_commit_is_taken_without_them_and_they_are_named(self, upstream: Upstream, tmp_path: Path) -> None:
        commit = self.lacking(upstream, "kernel__large.h", "kernel__image")
        progress = Recorder()
        source = upstream.resolve(commit, progress=progress)
        assert source.absent == ("kernel/image", "kernel/large.h")
        assert source.checksum == commit
        assert source.version == f"7.3.4-g{commit[:12]}"
        said = f"{upstream.path}: lacks the content of 2 files, left out: kernel/image, kernel/large.h"
        assert said in progress.said
        materialize(source, tmp_path / "w/src")
        assert (tmp_path / "w/src/kernel/sched.c").read_text() == "int sched;\n"
        assert not (tmp_path / "w/src/kernel/large.h").exists()

    @fault(
        "a git repository lacks a file whose name is not UTF-8",
        where="disk",
        blame=Blame.NOBODY,
        survives="the commit without that file, whose name the message shows",
    )
    def test_names_that_are_not_utf8(self, upstream: Upstream, tmp_path: Path) -> None:
        there, lost = (os.fsdecode(name) for name in (b"kernel__gro\xdf.h", b"kernel__\xe4.h"))
        commit = upstream.commit("latin", **{there: "there\n", lost: "lost\n"})
        blob = subprocess.run(["git", "hash-object", "kernel/ä.h".encode("latin-1")], cwd=upstream.path, check=True,
                              capture_output=True, text=True).stdout.strip()  # fmt: skip
        (upstream.path / ".git/objects" / blob[:2] / blob[2:]).unlink()
        progress = Recorder()
        for _ in range(2):
            source = upstream.resolve(commit, progress=progress)
            assert source.absent == (r"kernel/\xe4.h",)
        assert any(line.endswith(r"left out: kernel/\xe4.h") for line in progress.said)
        materialize(source, tmp_path / "w/src")
        found = {os.fsencode(path.name) for path in (tmp_path / "w/src/kernel").iterdir()}
        assert b"gro\xdf.h" in found
        assert b"\xe4.h" not in found

    def test_it_is_another_source_than_the_whole_commit(self, upstream: Upstream, tmp_path: Path) -> None:
        whole = tmp_path / "whole"
        commit = upstream.commit("large", kernel__large="large\n")
        shutil.copytree(upstream.path, whole)
        blob = upstream.git("rev-parse", "HEAD:kernel/large")
        (upstream.path / ".git/objects" / blob[:2] / blob[2:]).unlink()
        identity = resolve_source(parse_source_spec(f"git:{whole}#{commit}")).identity
        assert identity == commit
        assert upstream.resolve(commit).identity != commit

    def test_it_needs_no_repository_once_it_was_fetched(self, upstream: Upstream) -> None:
        commit = self.lacking(upstream, "kernel__large")
        spec = parse_source_spec(f"git:{upstream.path}#{commit}")
        first = resolve_source(spec)
        shutil.rmtree(upstream.path)
        assert resolve_source(spec) == first

    def test_a_branch_of_a_bare_one_too(self, upstream: Upstream, tmp_path: Path) -> None:
        commit = self.lacking(upstream, "kernel__large")
        (upstream.path / ".git").rename(tmp_path / "bare.git")
        source = resolve_source(parse_source_spec(f"git:{tmp_path / 'bare.git'}#master"))
        assert (source.checksum, source.absent) == (commit, ("kernel/large",))

    def test_the_whole_commit_before_it_is_not_affected(self, upstream: Upstream) -> None:
        self.lacking(upstream, "kernel__large")
        assert upstream.resolve("v7.3.4").absent == ()

    def test_what_it_has_by_now_is_fetched_too(self, upstream: Upstream, tmp_path: Path) -> None:
        commit = upstream.commit("large", kernel__large="large\n", kernel__image="image\n")
        contents = {}
        for name in ("large", "image"):
            blob = upstream.git("rev-parse", f"HEAD:kernel/{name}")
            path = upstream.path / ".git/objects" / blob[:2] / blob[2:]
            contents[path] = path.read_bytes()
            path.unlink()
        assert upstream.resolve(commit).absent == ("kernel/image", "kernel/large")
        for left, (path, content) in zip([("kernel/image",), ()], contents.items(), strict=True):
            path.write_bytes(content)
            assert upstream.resolve(commit).absent == left
        source = upstream.resolve(commit)
        assert source.identity == commit
        materialize(source, tmp_path / "w/src")
        assert (tmp_path / "w/src/kernel/large").read_text() == "large\n"

    def test_one_that_is_damaged_since_then_is_not_asked(self, upstream: Upstream) -> None:
        commit = self.lacking(upstream, "kernel__large")
        before = upstream.resolve(commit)
        shutil.rmtree(upstream.path / ".git")
        assert upstream.resolve(commit) == before

    @fault(
        "a git repository lacks a directory of the commit",
        where="disk",
        blame=Blame.INFRA,
        survives="what was fetched",
    )
    def test_one_that_lacks_directories_is_of_no_use(self, upstream: Upstream) -> None:
        before = upstream.resolve(upstream.first)
        commit = upstream.commit("second", kernel__sched="int sched2;\n")
        tree = upstream.git("rev-parse", "HEAD:kernel")
        (upstream.path / ".git/objects" / tree[:2] / tree[2:]).unlink()
        with pytest.raises(InfraError):
            upstream.resolve(commit)
        assert upstream.resolve(upstream.first) == before


def test_a_full_commit_that_was_fetched_needs_no_repository_any_more(upstream: Upstream, tmp_path: Path) -> None:
    spec = parse_source_spec(f"git:{upstream.path}#{upstream.first}")
    first = resolve_source(spec)
    shutil.rmtree(upstream.path)
    assert resolve_source(spec) == first


def test_only_the_one_commit_is_fetched(upstream: Upstream) -> None:
    upstream.commit("second", README="x\n")
    source = upstream.resolve("master")
    words = ["git", f"--git-dir={source.path}", "rev-list", "--count", source.identity]
    assert subprocess.run(words, check=True, capture_output=True, text=True).stdout == "1\n"


def test_uncommitted_changes_are_left_out_and_that_is_said(upstream: Upstream, tmp_path: Path) -> None:
    (upstream.path / "kernel/sched.c").write_text("dirty\n")
    progress = Recorder()
    source = upstream.resolve("master", progress=progress)
    assert any("uncommitted changes there are left out" in line for line in progress.said)
    materialize(source, tmp_path / "ws/src")
    assert (tmp_path / "ws/src/kernel/sched.c").read_text() == "int sched;\n"
    assert (upstream.path / "kernel/sched.c").read_text() == "dirty\n"


def test_a_missing_ref_is_answered_with_some_that_exist(upstream: Upstream) -> None:
    with pytest.raises(UserError, match=r"no branch or tag 'v7\.3\.5'; there are: v7\.3\.4, .*master"):
        upstream.resolve("v7.3.5")


def test_an_abbreviated_commit_is_answered_with_what_to_write(upstream: Upstream) -> None:
    with pytest.raises(UserError, match="of a commit write all 40 digits"):
        upstream.resolve(upstream.first[:12])


def test_a_commit_that_is_not_there_is_the_users_error(upstream: Upstream) -> None:
    with pytest.raises(UserError, match="the repository has no 0123456789"):
        upstream.resolve("0123456789" * 4)


def test_a_repository_without_a_kernel_is_refused(upstream: Upstream) -> None:
    upstream.git("rm", "-rq", "arch")
    upstream.commit("no arm64")
    with pytest.raises(UserError, match="not a kernel source tree: expected arch/arm64 in commit"):
        upstream.resolve("master")


def test_a_directory_without_a_repository_is_the_users_error(tmp_path: Path, upstream: Upstream) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="there is no git repository at"):
        resolve_source(parse_source_spec(f"git:{tmp_path / 'empty'}#master"))


@fault(
    "a git repository can not be reached",
    where="network",
    blame=Blame.NOBODY,
    survives="the commits that were fetched before",
)
def test_an_unreachable_repository_serves_from_what_was_fetched(upstream: Upstream) -> None:
    url = f"file://{upstream.path}"
    spec = parse_source_spec(f"git:{url}#master")
    first = resolve_source(spec)
    upstream.path.rename(upstream.path.with_name("gone"))
    progress = Recorder()
    assert resolve_source(spec, progress=progress) == first
    assert any("not reachable; continuing with master as fetched earlier" in line for line in progress.said)
    with pytest.raises((InfraError, UserError)):
        resolve_source(parse_source_spec(f"git:{url}#other"))


def test_a_moved_branch_changes_only_the_files_that_differ(upstream: Upstream, tmp_path: Path) -> None:
    tree = tmp_path / "ws/src"
    materialize(upstream.resolve("master"), tree)
    assert os.access(tree / "scripts/run.sh", os.X_OK)
    assert (tree / "arch/arm64/link").is_symlink()
    before = {path: path.lstat().st_mtime_ns for path in tree.rglob("*") if not path.is_dir()}
    upstream.git("rm", "--quiet", "scripts/run.sh")
    upstream.commit("second", kernel__sched="new\n", Kconfig="other\n")
    materialize(upstream.resolve("master"), tree)
    after = {path: path.lstat().st_mtime_ns for path in tree.rglob("*") if not path.is_dir()}
    changed = {str(path.relative_to(tree)) for path in after if after[path] != before.get(path)}
    assert changed == {"kernel/sched", "Kconfig"}
    assert not (tree / "scripts/run.sh").exists()
    assert (tree / "Kconfig").read_text() == "other\n"


@fault(
    "somebody changes a checkout in the cache",
    where="cache",
    blame=Blame.NOBODY,
    survives="the sources that were asked for",
)
def test_what_was_changed_or_added_in_the_tree_is_undone(upstream: Upstream, tmp_path: Path) -> None:
    tree = tmp_path / "ws/src"
    source = upstream.resolve("master")
    materialize(source, tree)
    (tree / "kernel/sched.c").write_text("patched\n")
    (tree / "kernel/new.c").write_text("added by a patch\n")
    (tree / "Kconfig").unlink()
    forget(tree)
    materialize(source, tree)
    assert (tree / "kernel/sched.c").read_text() == "int sched;\n"
    assert not (tree / "kernel/new.c").exists()
    assert (tree / "Kconfig").exists()


@fault(
    "a link that leads out of a git tree, under a name that is not UTF-8",
    where="hostile input",
    blame=Blame.NOBODY,
    survives="all other files of the tree",
)
def test_a_link_out_of_the_tree_whose_name_is_not_utf8(upstream: Upstream, tmp_path: Path) -> None:
    name = os.fsdecode(b"out\xff")
    (upstream.path / name).symlink_to("../../outside")
    upstream.commit("link")
    progress = Recorder()
    materialize(upstream.resolve("master"), tmp_path / "ws/src", progress=progress)
    assert not (tmp_path / "ws/src" / name).is_symlink()
    assert (tmp_path / "ws/src/Kconfig").exists()
    assert any(line.endswith(r"left out links that lead out of the tree: out\xff") for line in progress.said)


@fault("the index of a source checkout is damaged", where="cache", blame=Blame.NOBODY, survives="the checkout")
def test_a_broken_index_does_not_stand_in_the_way(upstream: Upstream, tmp_path: Path) -> None:
    tree = tmp_path / "ws/src"
    source = upstream.resolve("master")
    materialize(source, tree)
    (tmp_path / "ws/source.index").write_bytes(b"half an index")
    (tmp_path / "ws/source.index.lock").touch()
    forget(tree)
    materialize(source, tree)
    assert (tree / "kernel/sched.c").read_text() == "int sched;\n"


def test_it_works_from_within_a_git_hook(upstream: Upstream, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other.git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "other.index"))
    source = resolve_source(parse_source_spec(f"git:{upstream.path}#master"))
    materialize(source, tmp_path / "ws/src")
    assert (tmp_path / "ws/src/Kconfig").exists()
    assert not (tmp_path / "other.git").exists()
    assert not (tmp_path / "other.index").exists()


@fault(
    "a git server that reports progress without end",
    where="hostile input",
    blame=Blame.NOBODY,
    survives="the memory of the host",
)
def test_only_the_end_of_a_servers_words_is_read(tmp_path: Path) -> None:
    log = tmp_path / "fetch.log"
    log.write_bytes(b"remote: x\n" * 100_000 + b"Receiving objects:  42% (1/2)\r\xff")
    text = gitrepo._end_of(log)
    assert text.endswith("Receiving objects:  42% (1/2)\r\ufffd")
    assert len(text) == gitrepo._SHOWN_BYTES
