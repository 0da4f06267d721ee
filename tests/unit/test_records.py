"""build.json, written and read, also as older harnesses wrote it; which harness this is."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from harness import __version__
from harness.build.finished import load_build, load_record
from harness.errors import UserError
from harness.model.record import (
    BuildHost,
    BuildRecord,
    HarnessRecord,
    KernelRecord,
    PatchRecord,
    SourceRecord,
    ToolchainRecord,
)
from harness.parse.records import build_record_from_json, build_record_to_json
from harness.run import identity
from harness.run.identity import new_run_id, this_harness

RECORD = BuildRecord(
    key="09449304fed318fd",
    kernel=KernelRecord(
        release="7.3.4",
        key="96a70564c87ca3ef",
        made="5bf010bb01c6f3e0",
        source=SourceRecord(spec="debian:x", version="7.3.4-1", checksum="sha256:1", identity="2"),
        patches=(PatchRecord(name="1.patch", sha256="3"),),
        fragments=("base.config", "ftrace.config"),
        toolchain=ToolchainRecord(name="gcc", command="aarch64-linux-gnu-gcc", version="12.2.0", patchable=True),
        without={"TEST_LIVEPATCH": "no such symbol"},
    ),
    left_out={"far": "needs CONFIG_X"},
    unbuilt={"calls": "calls.c:1:2: error: no C"},
    host=BuildHost(machine="x86_64", system="Debian GNU/Linux 12 (bookworm)", cpus=2),
    times={"source": 1.5, "kernel": 30.0},
    reproduce="harness build --kernel debian:x",
    has_manifest=True,
)
# what the first harnesses wrote: no hashes of kernels, no command of the compiler
OLD = {
    "key": "k",
    "release": "6.1.0",
    "source": {"spec": "v6.1"},
    "patches": [],
    "fragments": ["base.config"],
    "toolchain": {"name": "gcc", "version": "12.2.0"},
    "times": {"kernel": 10, "collect": "long"},
    "without": {},
    "test_modules_left_out": {},
}


def test_round_trip() -> None:
    assert build_record_from_json(build_record_to_json(RECORD)) == RECORD
    assert RECORD.seconds == 31.5
    unbuilt = BuildRecord(key="k", errors=("x.c:1:1: error: no C", "more of it"))
    assert build_record_from_json(build_record_to_json(unbuilt)) == unbuilt


def test_the_names_in_build_json_stay_what_they_are() -> None:
    """Scripts read them."""
    data = json.loads(build_record_to_json(RECORD))
    assert {name: data[name] for name in ("key", "kernel", "made", "release", "reproduce")} == {
        "key": RECORD.key,
        "kernel": RECORD.kernel.key,
        "made": RECORD.kernel.made,
        "release": "7.3.4",
        "reproduce": RECORD.reproduce,
    }
    assert data["toolchain"]["patchable_function_entry"] is True
    assert data["times"] == {"source": 1.5, "kernel": 30.0}
    assert data["test_modules_left_out"] == {"far": "needs CONFIG_X"}
    assert data["not_built"] == {"calls": "calls.c:1:2: error: no C"}


def test_an_old_build_loads(tmp_path: Path) -> None:
    (tmp_path / "build.json").write_text(json.dumps(OLD))
    (tmp_path / ".config").write_text("CONFIG_FTRACE=y\n")
    build = load_build(tmp_path)
    assert build.products == ()
    assert (build.release, build.key, build.config) == ("6.1.0", "k", {"FTRACE": "y"})
    record = load_record(tmp_path)
    assert (record.kernel.key, record.kernel.made, record.kernel.toolchain.patchable) == ("", "", None)
    assert record.kernel.toolchain.compiler == "12.2.0"
    assert record.seconds == 10.0


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{", "JSONDecodeError"),
        ("[]", "expected an object, found list"),
        (json.dumps(OLD | {"release": None}), "release: expected a string, found None"),
        (json.dumps(OLD | {"without": []}), r"without: expected an object, found \[\]"),
        (json.dumps({name: value for name, value in OLD.items() if name != "key"}), "key: expected a string"),
    ],
)
def test_what_is_no_build(tmp_path: Path, text: str, what: str) -> None:
    (tmp_path / "build.json").write_text(text)
    with pytest.raises(UserError, match=what):
        load_build(tmp_path)
    with pytest.raises(UserError, match="expected a finished build"):
        load_record(tmp_path / "nowhere")


def test_what_is_not_even_a_directory_is_the_users_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in ("file", "nowhere"):
        with pytest.raises(UserError, match="expected a finished build"):
            load_build(tmp_path / path)


def git(directory: Path, *words: str) -> str:
    command = ["git", "-C", str(directory), "-c", "user.name=n", "-c", "user.email=e@example.org", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package in a directory that is no checkout, of which pip knows nothing."""
    monkeypatch.setattr(identity, "_DISTRIBUTION", "no-such-distribution")
    (tmp_path / "top/harness").mkdir(parents=True)
    (tmp_path / "top/harness/x.py").write_text("x = 1\n")
    return tmp_path / "top/harness"


def test_the_harness_of_a_checkout_is_its_commit_and_whether_that_was_changed(package: Path) -> None:
    top = package.parent
    git(top, "init", "--quiet")
    git(top, "add", ".")
    git(top, "commit", "--quiet", "--message", "m")
    commit = git(top, "rev-parse", "HEAD")
    assert this_harness(package) == HarnessRecord(version=__version__, commit=commit)
    (package / "notes").write_text("of nobody's concern\n")
    assert not this_harness(package).is_dirty
    (package / "x.py").write_text("x = 2\n")
    assert this_harness(package) == HarnessRecord(version=__version__, commit=commit, is_dirty=True)


@pytest.mark.parametrize(("text", "is_dirty"), [("c0ffee\n", False), ("c0ffee modified\n", True)])
def test_a_packaged_harness_is_what_it_was_packaged_from(package: Path, text: str, is_dirty: bool) -> None:
    git(package.parents[1], "init", "--quiet")  # not this one
    (package / "commit").write_text(text)
    assert this_harness(package) == HarnessRecord(version=__version__, commit="c0ffee", is_dirty=is_dirty)


def test_of_a_harness_from_nowhere_only_the_version_is_known(package: Path) -> None:
    assert this_harness(package) == HarnessRecord(version=__version__)
    assert str(this_harness(package)) == __version__
    assert str(HarnessRecord(version="1", commit="c" * 40, is_dirty=True)) == f"1 ({'c' * 12}, modified)"


def test_run_ids_differ_and_sort_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = []
    for moment in (1_700_000_000.0, 1_700_000_000.001, 1_700_000_001.0, 1_800_000_000.0):
        monkeypatch.setattr("time.time", lambda moment=moment: moment)
        ids.append(new_run_id())
    assert ids == sorted(ids)
    assert ids[0].startswith("20231114T221320.000Z-")
    assert new_run_id() != new_run_id()
