"""A failure as an archive: what is in it and what must not be, that it is the same each time, and a run itself."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from harness.build.finished import RECORD, load_record
from harness.build.load_patches import load_patches
from harness.build.seal import seal_directory
from harness.campaign import archive
from harness.campaign.archive import packed, write_whole
from harness.campaign.recipe import board_entry, find_failure, gathered, other_files
from harness.campaign.repro import ReproRequest, failure_named, write_archive
from harness.errors import UserError
from harness.model.board import Login, Ssh
from harness.model.event import Event, Finished, Planned, RunBegun, RunEnded
from harness.model.fault import Fault, FaultKind
from harness.model.kernel import Patch
from harness.model.record import BoardRecord, BuildRecord, KernelRecord, PatchRecord, RunRecord, SourceRecord
from harness.model.result import Attempt, EndKind, Result, RunEnd, Verdict
from harness.parse.events import event_to_json
from harness.parse.records import build_record_to_json
from harness.report.repro import count, recipe_json, told
from harness.run.documents import read_results
from tests.boards import spec
from tests.command import harness
from tests.faults.catalogue import Blame, fault

CRASH = "testcases/livepatch/test_x.py::test_crash"
OTHER = "testcases/livepatch/test_x.py::test_other"
LATER = "testcases/livepatch/test_x.py::test_later"
PASSED = "testcases/function/test_calls.py::test_caller"
LINES = ("[    1.000000] Unable to handle kernel paging request at virtual address 8", "[    1.000001] pc : f+0x1/0x2")
FAULT = Fault(kind=FaultKind.OOPS, title="Unable to handle kernel paging request in f", lines=LINES)
BOARDS = "boards:\n  qemu-virt:\n    description: with ${WORD}\n    boot: {method: qemu, memory_mib: 512}\n"
QEMU = (
    "$ qemu-system-aarch64 -M virt -chardev socket,id=kernel,fd=5\n"
    "$ setpriv --pdeathsig KILL -- qemu-system-aarch64 -M virt -chardev socket,id=kernel,fd=7 -incoming defer\n"
    "a word of QEMU's own\n"
)
CONSOLE = (
    f"[    0.000000] Booting Linux\n--- {OTHER}\n[    0.500000] other\n"
    f"--- {CRASH}\n[    1.000000] Unable to handle kernel paging request at virtual address 8\n"
    f"--- {LATER}\n[    2.000000] later\n"
)


def _result(test: str, verdict: Verdict, machine: str, started: float, **more: object) -> Result:
    fields: dict[str, object] = {"seconds": 1.0, "actual": verdict, **more}
    return Result(test=test, verdict=verdict, machine=machine, started=started, **fields)  # type: ignore[arg-type]


@pytest.fixture
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run in which one test crashed, on a machine that another one had used, and its build, in the cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HARNESS_BOARDS", str(tmp_path / "boards.yaml"))
    monkeypatch.setenv("WORD", "hunter2-hunter2")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "boards.yaml").write_text(BOARDS)
    directory = tmp_path / "run"
    (directory / "logs").mkdir(parents=True)
    (directory / "logs/crash.log").write_text("what the test said\n")
    (directory / "console.log").write_text(CONSOLE)
    (directory / "qemu.log").write_text(QEMU)
    write_run(
        directory,
        _result(PASSED, Verdict.PASS, "restored-1", 1.0),
        _result(OTHER, Verdict.PASS, "restored-2", 2.0),
        _result(CRASH, Verdict.CRASH, "restored-2", 3.0, fault=FAULT, reason=FAULT.title, log="logs/crash.log"),
        _result(LATER, Verdict.FAIL, "restored-2", 4.0, reason="expected 3, found 4"),
    )
    write_build(tmp_path / "cache/arm64-ftrace-harness/builds/k", directory)
    return directory


def write_run(directory: Path, *results: Result, board: str = "qemu-virt") -> None:
    record = RunRecord(id="20261128T120000.000Z-abcdef01", build="k", board=BoardRecord(name=board))
    events: list[Event] = [RunBegun(time=1.0, record=record), Planned(time=1.0, tests=tuple(r.test for r in results))]
    events += [Finished(time=5.0, result=result) for result in results]
    events += [RunEnded(time=9.0, end=RunEnd(kind=EndKind.COMPLETE))]
    (directory / "events.jsonl").write_text("".join(f"{event_to_json(event)}\n" for event in events))


def write_build(
    build: Path, run_dir: Path, *, reproduce: str = "harness build --kernel 7.3.4", **kernel: object
) -> None:
    fields: dict[str, object] = {"release": "7.3.4", "source": SourceRecord(spec="7.3.4", version="7.3.4"), **kernel}
    record = BuildRecord(key="k", kernel=KernelRecord(**fields), reproduce=reproduce, has_manifest=True)  # type: ignore[arg-type]
    build.mkdir(parents=True)
    (build / RECORD).write_text(build_record_to_json(record))
    (build / ".config").write_text("CONFIG_FTRACE=y\n")
    (build / "Image").write_text("an Image")
    (build / "vmlinux").write_text("a vmlinux")
    seal_directory(build, final=build)
    (run_dir / RECORD).write_text(build_record_to_json(record))


def unpacked(path: Path, into: Path) -> Path:
    with tarfile.open(path) as tarball:
        tarball.extractall(into, filter="data")
    (top,) = into.iterdir()
    return top


def archived(run_dir: Path, test: str = CRASH) -> Path:
    request = ReproRequest(run=run_dir, test=test)
    return write_archive(failure_named(request), request)[0]


def test_the_archive_has_all_that_led_to_the_failure(run_dir: Path, tmp_path: Path) -> None:
    done = harness("repro", str(run_dir), CRASH, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    path = Path(done.stdout.splitlines()[0])
    top = unpacked(tmp_path / path, tmp_path / "there")
    names = {str(each.relative_to(top)) for each in top.rglob("*") if each.is_file()}
    logs = "logs/testcases_livepatch_test_x.py_test_crash.log"
    files = {"README", "repro.json", "repro.sh", "events.jsonl", "build.json", "kernel.config", "console.log", logs}
    assert names == files
    recipe = json.loads((top / "repro.json").read_text())
    assert {"Image", "vmlinux"} <= recipe["files"].keys()
    assert recipe["before"] == [OTHER]
    assert recipe["failure"] == "Unable to handle kernel paging request in f [oops]"
    assert recipe["qemu"] == "qemu-system-aarch64 -M virt -chardev socket,id=kernel,fd=7 -incoming defer"
    assert recipe["board"]["boot"]["memory_mib"] == 512
    assert recipe["kernel"]["build"] == "harness build --kernel 7.3.4"
    assert (top / "kernel.config").read_text() == "CONFIG_FTRACE=y\n"
    assert (top / logs).read_text() == "what the test said\n"
    assert (top / "console.log").read_text() == "".join(f"{line}\n" for line in CONSOLE.splitlines()[3:5])
    assert OTHER in (top / "README").read_text()


def test_the_same_failure_gives_the_same_bytes(run_dir: Path, tmp_path: Path) -> None:
    path = archived(run_dir)
    first = path.read_bytes()
    os.utime(run_dir / "logs/crash.log", (1, 1))
    path.unlink()
    assert archived(run_dir).read_bytes() == first
    with tarfile.open(fileobj=io.BytesIO(first)) as tarball:
        members = tarball.getmembers()
    assert [member.name for member in members] == sorted(member.name for member in members)
    assert {(member.mtime, member.uid, member.gid, member.uname, member.gname) for member in members} == {
        (0, 0, 0, "", "")
    }
    assert {member.name.rpartition("/")[2] for member in members if member.mode & 0o111} == {"repro.sh"}


def test_what_an_archive_contains_is_a_run_with_that_failure(run_dir: Path, tmp_path: Path) -> None:
    top = unpacked(archived(run_dir), tmp_path / "there")
    results = read_results(top)
    assert [result.test for result in results.results] == [OTHER, CRASH]
    assert results.record.id == ""  # or a history would take it for the whole run
    (tmp_path / "cache/arm64-ftrace-harness/builds/k").rename(tmp_path / "elsewhere")  # another host
    failure = find_failure(top, CRASH, build_dir=tmp_path / "elsewhere")
    assert failure.before == (OTHER,)
    assert failure.result.fault == FAULT
    assert failure.build
    assert other_files(failure, failure.build) == []
    again = unpacked(archived(top), tmp_path / "again")
    for name in ("repro.json", "events.jsonl", "build.json", "console.log"):
        here, there = (json.loads((each / "repro.json").read_text()) for each in (top, again))
        assert name == "repro.json" or (again / name).read_bytes() == (top / name).read_bytes()
    for recipe in (here, there):  # another run's name, and no log of QEMU
        del recipe["run"], recipe["qemu"]
    assert here == there


def test_a_known_failure_of_a_worker_has_the_workers_logs(run_dir: Path) -> None:
    fields = {"fault": FAULT, "actual": Verdict.CRASH}
    write_run(run_dir, _result(CRASH, Verdict.XFAIL, "gw1/restored-2", 3.0, **fields))
    (run_dir / "worker-gw1").mkdir()
    (run_dir / "worker-gw1/console.log").write_text(f"--- {CRASH}\n[    1.000000] here\n")
    recipe, files = gathered(find_failure(run_dir, CRASH), None)
    assert files["console.log"].decode() == f"--- {CRASH}\n[    1.000000] here\n"
    assert recipe.qemu.endswith("fd=7 -incoming defer")  # the worker has no log of QEMU's, the run has
    (run_dir / "worker-gw1/console.log").unlink()
    (run_dir / "console.log").unlink()
    assert gathered(find_failure(run_dir, CRASH), None)[1]["console.log"].decode().splitlines() == [*LINES]


def test_another_kernel_is_told(run_dir: Path, tmp_path: Path) -> None:
    top = unpacked(archived(run_dir), tmp_path / "there")
    other = tmp_path / "other"
    other.mkdir()
    write_build(other / "k", tmp_path)
    (other / "k/Image").write_text("an ImagE")
    (other / "k/manifest.json").unlink()
    seal_directory(other / "k", final=other / "k")
    failure = find_failure(top, CRASH, build_dir=other / "k")
    assert failure.build
    (difference,) = other_files(failure, failure.build)
    assert difference.startswith("Image: SHA-256 ")


def test_patches_and_fragments_are_in_it_and_the_command_uses_them(run_dir: Path, tmp_path: Path) -> None:
    text = "--- a/f\n+++ b/f\n@@ -1 +1 @@\n-a\n+b\n"
    (tmp_path / "my.patch").write_text(text)
    (tmp_path / "my own.config").write_text("CONFIG_X=y\n")
    (patch,) = load_patches((tmp_path / "my.patch",))
    assert isinstance(patch, Patch)
    reproduce = (
        f"harness build --kernel 7.3.4 --patches {tmp_path}/my.patch --kconfig '{tmp_path}/my own.config' --no-sandbox"
    )
    build = tmp_path / "cache/arm64-ftrace-harness/builds/k"
    build.rename(tmp_path / "gone")
    write_build(build, run_dir, reproduce=reproduce, patches=(PatchRecord(name="my.patch", sha256=patch.sha256),))
    top = unpacked(archived(run_dir), tmp_path / "there")
    assert (top / "patches/0001-my.patch").read_text() == patch.text
    assert (top / "kconfigs/1-my_own.config").read_text() == "CONFIG_X=y\n"
    words = "harness build --kernel 7.3.4 --patches patches --kconfig kconfigs/1-my_own.config"
    assert load_record(top).reproduce == words  # without --no-sandbox: who unpacks it trusts less
    (tmp_path / "my.patch").unlink()
    (tmp_path / "my own.config").unlink()
    monkey = Path.cwd()
    os.chdir(top)
    try:
        assert unpacked(archived(top), tmp_path / "again").joinpath("kconfigs/1-1-my_own.config").is_file()
    finally:
        os.chdir(monkey)
    recipe, _ = gathered(find_failure(run_dir, CRASH), None)
    assert recipe.building == ()
    assert "the patches: they are neither in the run's directory nor where they were" in recipe.lacking


def test_the_script_builds_and_repeats(run_dir: Path, tmp_path: Path) -> None:
    top = unpacked(archived(run_dir), tmp_path / "there")
    fake = tmp_path / "fake"
    fake.write_text(
        '#!/bin/sh\n[ "$1" = build ] && { echo progress >&2; echo /the/build; exit; }\nprintf "<%s>" "$@"\n'
    )
    fake.chmod(0o755)
    environment = {**os.environ, "HARNESS": str(fake)}

    def ran(*words: str, **more: str) -> str:
        given = environment | more
        done = subprocess.run(
            [top / "repro.sh", *words], env=given, capture_output=True, text=True, check=True, timeout=60
        )
        return done.stdout

    assert ran() == f"<repro><--build></the/build><--times><20><--><.><{CRASH}>"
    assert ran("--attach", BUILD="/mine") == f"<repro><--build></mine><--attach><--><.><{CRASH}>"


@fault(
    "the names in a run's events lead out of its directory, or into a shell",
    where="hostile target",
    blame=Blame.NOBODY,
    survives="an archive with harmless names, without the files outside",
)
def test_names_from_results_are_no_paths(run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/console.log").write_text("--- x\nnot for others\n")
    (tmp_path / "secret").write_text("not for others\n")
    (run_dir / "logs/link.log").symlink_to(tmp_path / "secret")
    test = "../../$(touch pwned)'/-x"
    for log in ("../secret", "logs/link.log", str(tmp_path / "secret"), "logs/\0"):
        write_run(run_dir, _result(test, Verdict.CRASH, "../outside/restored-1", 1.0, fault=FAULT, log=log))
        path = archived(run_dir, test)
        with tarfile.open(path) as tarball:
            names = tarball.getnames()
            text = b"".join(file.read() for member in tarball if (file := tarball.extractfile(member)))
        assert path.parent == Path("out")
        assert all(name.startswith("repro-touch_pwned_-x/") and ".." not in name.split("/") for name in names), names
        assert b"not for others" not in text
    top = unpacked(path, tmp_path / "there")
    subprocess.run(
        [top / "repro.sh"], env={**os.environ, "HARNESS": "true", "BUILD": "/b"}, cwd=tmp_path, check=True, timeout=60
    )
    assert not list(tmp_path.rglob("pwned"))


@fault(
    "a board's password is in the logs of a run, and in its entry in boards.yaml",
    where="lab",
    blame=Blame.NOBODY,
    survives="an archive without it",
)
def test_no_secret_of_the_board_is_in_it(run_dir: Path) -> None:
    text = "boards:\n  lab1:\n    console: {kind: serial, device: /dev/ttyUSB0}\n"
    text += "    power: {kind: tasmota, host: plug, password: '${WORD}'}\n    boot: {method: uboot, tftp_root: /t}\n"
    text += "    cmdline: token=hunter2-hunter2\n"
    Path("boards.yaml").write_text(text)
    (run_dir / "logs/crash.log").write_text("login with hunter2-hunter2\n")
    (run_dir / "console.log").write_text(f"--- {CRASH}\nhunter2-hunter2\n")
    crash = _result(CRASH, Verdict.CRASH, "boot-1", 3.0, fault=FAULT, reason="hunter2-hunter2", log="logs/crash.log")
    write_run(run_dir, crash, board="lab1")
    with tarfile.open(archived(run_dir)) as tarball:
        files = {m.name.partition("/")[2]: file.read() for m in tarball if (file := tarball.extractfile(m))}
    assert [name for name, content in files.items() if b"hunter2" in content] == []
    assert json.loads(files["repro.json"])["board"]["cmdline"] == "token=***"


def test_a_boards_entry_says_nothing_of_how_it_is_reached() -> None:
    board = spec(
        ssh=Ssh(host="10.0.0.7", login=Login(password="open sesame")), secrets=("open sesame",), cmdline="quiet"
    )
    entry = json.dumps(board_entry(board))
    assert "quiet" in entry
    assert "sesame" not in entry
    assert "10.0.0.7" not in entry


@pytest.mark.parametrize(
    ("test", "wanted"),
    [
        (CRASH[:-1], f"expected a test of the run {{run}}, found none; of its failures these are nearest: {CRASH}, "),
        (PASSED, f"expected a test that failed in {{run}}, found PASS; of its failures these are nearest: {LATER}, "),
    ],
)
def test_a_test_that_did_not_fail_there_is_refused(run_dir: Path, test: str, wanted: str) -> None:
    with pytest.raises(UserError) as error:
        find_failure(run_dir, test)
    assert error.value.message.startswith(f"{test}: {wanted.format(run=run_dir)}"), error.value.message


def test_no_run_and_no_kernel_are_the_users_to_name(run_dir: Path, tmp_path: Path) -> None:
    none = harness("repro", "nowhere", CRASH, cwd=tmp_path, HARNESS_HISTORY=str(tmp_path / "none"))
    assert (none.returncode, none.stdout) == (2, "")
    assert "expected the directory of a run" in none.stderr
    (tmp_path / "cache/arm64-ftrace-harness/builds/k").rename(tmp_path / "gone")
    done = harness("repro", str(run_dir), CRASH, "--times", "3", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        "expected the kernel of this run in the cache, found none; build it (harness build --kernel 7.3.4)"
        in done.stderr
    )


def test_only_a_virtual_machine_stops_for_gdb(run_dir: Path, tmp_path: Path) -> None:
    text = "boards:\n  lab1:\n    console: {kind: serial, device: /dev/no-such}\n"
    text += "    power: {kind: tasmota, host: plug}\n    boot: {method: uboot, tftp_root: /t}\n"
    Path("boards.yaml").write_text(text)
    write_run(run_dir, _result(CRASH, Verdict.CRASH, "boot-1", 3.0, fault=FAULT), board="lab1")
    done = harness("repro", str(run_dir), CRASH, "--attach", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--attach: expected a machine that QEMU emulates, found the board lab1" in done.stderr


@fault(
    "the disk is full while an archive is written, or its directory can't be written to",
    where="disk",
    blame=Blame.USER,
    survives="the archive of before",
)
def test_an_archive_is_there_whole_or_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.tar.gz"
    path.write_text("the one before")

    def fails(partial: Path, final: Path) -> None:
        assert partial.read_text() == "new"
        raise PermissionError(13, "Permission denied", str(partial))

    monkeypatch.setattr(archive, "rename_synced", fails)
    with pytest.raises(UserError, match=r"a\.tar\.gz: expected a file to write to, found: Permission denied"):
        write_whole(path, b"new")
    assert [each.name for each in tmp_path.iterdir()] == ["a.tar.gz"]
    assert path.read_text() == "the one before"


def test_packing_does_not_depend_on_the_order_of_files() -> None:
    files: Mapping[str, bytes] = {"b": b"2", "a": b"1"}
    assert packed(files, top="t") == packed({"a": b"1", "b": b"2"}, top="t")


def test_counting_how_it_came_back() -> None:
    failure = _result(CRASH, Verdict.CRASH, "restored-1", 1.0, fault=FAULT)
    same = Attempt(verdict=Verdict.CRASH, fault=dataclasses.replace(FAULT, lines=()))
    cut = Attempt(verdict=Verdict.CRASH, fault=dataclasses.replace(FAULT, is_whole=False))
    other = Attempt(verdict=Verdict.FAIL, reason="expected 3, found 4")
    lost, passed = Attempt(verdict=Verdict.ERROR, reason="QEMU was killed"), Attempt(verdict=Verdict.PASS)
    repeated = count(failure, [same, cut, other, other, lost, passed, passed, passed])
    assert (repeated.alike, repeated.passed, repeated.silent, repeated.runs) == (2, 3, 1, 7)
    first, *more = told(repeated)
    assert first.startswith("2 of 7 repetitions failed like that, so ")
    assert first.endswith("% of the time: Unable to handle kernel paging request in f [oops]")
    assert more == [
        "2 failed otherwise: FAIL: expected 3, found 4",
        "3 passed",
        "1 more say nothing: the machine or the lab failed",
    ]
    assert told(count(failure, [lost])) == [
        "repeated without an answer: 1 times the machine, the lab or the harness failed"
    ]


def test_a_recipe_is_the_same_text_each_time(run_dir: Path) -> None:
    failure = find_failure(run_dir, CRASH)
    assert recipe_json(gathered(failure, None)[0]) == recipe_json(gathered(failure, None)[0])
