"""The parts of a night that touch the world: what a plan names, kernels, runs as processes, mails, the verb."""

from __future__ import annotations

import dataclasses
import errno
import shutil
import subprocess
import threading
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click.testing
import pytest

from harness.boards.inventory import read_inventory
from harness.build import inuse
from harness.build.prebuilt.assemble import Wish
from harness.campaign.nightly import cells as module
from harness.campaign.nightly import local
from harness.campaign.nightly import night as night_module
from harness.campaign.nightly.cells import Checked, Recipe, check, resolve
from harness.campaign.nightly.local import LocalExecutor
from harness.campaign.nightly.morning import check_mail, mail
from harness.campaign.nightly.night import listed
from harness.campaign.request import BuildOptions, NightMail, NightRequest
from harness.cli.main import cli
from harness.errors import InfraError, UserError
from harness.layout import KCONFIGS
from harness.model.night import Cell, State
from harness.model.progress import Silent
from harness.run.side_run import Ended, SideRuns
from harness.shortage import Shortage
from tests.fakenight import BOARDS, PLAN, Lab, states, write_run
from tests.faults.catalogue import Blame, fault
from tests.records import build_json
from tests.unit.mailserver import mail_server

ONE = 'kernels: {stable: {kernel: "7.3.4"}}\nboards: [one]\n'


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def checked(directory: Path, plan: str, boards: str = BOARDS) -> Checked:
    (directory / "plan.yaml").write_text(plan)
    (directory / "boards.yaml").write_text(boards)
    return check(NightRequest(plan=directory / "plan.yaml", boards_file=directory / "boards.yaml"))


# --- what a plan names ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plan", "told"),
    [
        (ONE.replace("[one]", "[two]"), "plan.yaml: boards: expected a board or pool such as one, "),
        (ONE + "configurations: {s: [variants/sise]}", "plan.yaml: configurations.s: expected a file at "),
        (ONE + "configurations: {s: [sub]}", "/sub, found something else"),
        (ONE.replace("}}", ", patches: [x.mbox]}}"), "plan.yaml: kernels.stable.patches: expected a file at "),
        (ONE.replace("7.3.4", "nowhere"), "plan.yaml: kernels.stable.kernel: 'nowhere' is not a kernel source"),
        (
            ONE.replace("7.3.4", "debian-image:linux-arm64@trixie"),
            "plan.yaml: kernels.stable.kernel: debian-image:linux-arm64@trixie: expected a package such as",
        ),
        (
            ONE.replace('7.3.4"', 'debian-image:@trixie", patches: [sub]'),
            "plan.yaml: kernels.stable.kernel: debian-image:@trixie is a finished kernel: patches can't change it",
        ),
        (
            ONE.replace("7.3.4", "built"),
            "plan.yaml: kernels.stable.kernel: built: expected prebuilt: before the path of",
        ),
        (ONE.replace("7.3.4", "x.deb"), "plan.yaml: kernels.stable.kernel: x.deb: no such file or directory: "),
        (
            ONE + "configurations: {s: ['~no-such-user-here/x']}",
            "plan.yaml: configurations.s: ~no-such-user-here/x: expected a path, found ~ of a user",
        ),
        (
            ONE.replace("}}", f", patches: [{'x' * 300}]}}}}"),
            f"plan.yaml: kernels.stable.patches: {'x' * 100}: expected a path, can't use it: File name too long",
        ),
        (ONE.replace("7.3.4", "x" * 300), f"plan.yaml: kernels.stable.kernel: {'x' * 100}: expected a path, can't use"),
        (
            ONE + "suites: {x: {suites: [functoin]}}",
            "plan.yaml: suites.x: --suite: expected one of testcases/function, ",
        ),
        (
            ONE.replace("[one]", "[a]") + "defaults: {workers: 2}",
            "plan.yaml: workers: expected 1 for the board a, which has no snapshots, found 2; the boards of a pool",
        ),
    ],
)
def test_what_a_plan_names_and_there_is_not_is_told_before_the_night(plan: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "built/boot").mkdir(parents=True)
    with pytest.raises(UserError) as caught:
        checked(tmp_path, plan)
    assert told in caught.value.message


def test_a_plan_that_can_not_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.yaml: expected a plan for the night, can't read it: "):
        check(NightRequest(plan=tmp_path / "nowhere.yaml"))


def test_a_pool_stands_for_its_boards_and_paths_are_relative_to_the_plan(tmp_path: Path) -> None:
    (tmp_path / "mine.config").write_text("CONFIG_X=y\n")
    (tmp_path / "linux").mkdir()
    (tmp_path / "x.mbox").write_text("")
    made = checked(
        tmp_path,
        "kernels: {k: {kernel: linux, patches: [x.mbox]}}\nboards: [farm]\n"
        "configurations: {c: [mine.config, variants/size]}",
    )
    assert [board.name for board in made.boards["farm"]] == ["a", "b"]
    [slot] = made.plan.slots()
    options = made.options(slot)
    assert options.kernel == str(tmp_path / "linux")
    assert options.patches == (tmp_path / "x.mbox",)
    assert options.kconfigs == (tmp_path / "mine.config", KCONFIGS / "variants/size.config")


@pytest.mark.parametrize(("text", "kernel"), [("prebuilt:built", "prebuilt:{}/built"), ("x.deb", "{}/x.deb")])
def test_the_path_of_a_built_kernel_is_relative_to_the_plan(text: str, kernel: str, tmp_path: Path) -> None:
    (tmp_path / "built").mkdir()
    (tmp_path / "x.deb").write_text("")
    made = checked(tmp_path, ONE.replace("7.3.4", text))
    [slot] = made.plan.slots()
    options = made.options(slot)
    assert (options.kernel, options.toolchain, options.kconfigs) == (kernel.format(tmp_path), None, ())


def test_a_board_of_a_pool_that_is_incomplete_is_told(lab: Lab) -> None:
    boards = BOARDS.replace("b: {like: farm}", "b: {like: farm, ssh: {host: '${NO_SUCH_HOST}'}}")
    (lab.directory / "boards.yaml").write_text(boards)
    lab.plan = PLAN.replace("[one]", "[farm]")
    made, here = lab.play()
    [told] = made.boards
    assert told.startswith("board b of pool farm is left out: boards.yaml: b.ssh.host: ")
    assert "board b of pool farm is left out" in " ".join((here.directory / "summary.txt").read_text().split())


# --- kernels --------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Sources:
    """Stands for fetching sources and describing kernels."""

    fetched: list[str] = dataclasses.field(default_factory=list)
    error: Exception | None = None
    salt: str = ""

    def resolve(self, spec: Any, **_: object) -> str:
        self.fetched.append(spec.text)
        if self.error:
            raise self.error
        return f"source of {spec.text}"

    def kernel(self, options: BuildOptions, _board: object, _progress: object, *, source: str) -> str:
        if options.toolchain == "gcc-99":
            raise UserError("--toolchain: no such compiler")
        return f"{source} {options.toolchain} {options.kconfigs} {self.salt}"


@pytest.fixture
def sources(monkeypatch: pytest.MonkeyPatch) -> Sources:
    made = Sources()
    monkeypatch.setattr("harness.build.host.ensure_host", lambda **_: None)
    monkeypatch.setattr(module, "resolve_source", made.resolve)
    monkeypatch.setattr(module, "kernel_for", made.kernel)
    monkeypatch.setattr(module, "build_key", lambda spec, testcases: f"key of {spec}")
    return made


def test_each_source_is_resolved_once_and_each_build_has_one_recipe(tmp_path: Path, sources: Sources) -> None:
    made = checked(tmp_path, PLAN.replace("[one]", "[one, farm]") + "toolchains: [gcc, clang-19]\n")
    found = resolve(made, made.plan.slots(), Silent())
    assert sources.fetched == ["7.3.4", "7.4"]
    assert (len(found.cells), len(found.recipes), found.problems) == (16, 8, {})
    assert {cell.candidates for cell in found.cells} == {("one",), ("a", "b")}
    assert len({cell.identity for cell in found.cells}) == 16


def test_a_built_kernel_is_determined_once_for_all_boards(
    tmp_path: Path, sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its build is what its packages make of it; fragments of boards, toolchains and configurations change nothing."""
    asked: list[str] = []

    def wish(spec: Any, options: BuildOptions, _progress: object) -> Any:
        asked.append(spec.text)
        assert (options.toolchain, options.kconfigs) == (None, ())
        return SimpleNamespace(key=f"key of {spec.text}{sources.salt}")

    monkeypatch.setattr(module, "wish_for", wish)
    text = "debian-image:linux-image-arm64@trixie"
    boards = BOARDS.replace("pool: farm\n", "pool: farm\n    kconfigs: [variants/size.config]\n")
    plan = PLAN.replace("7.3.4", text).replace("[one]", "[one, a]") + "toolchains: [gcc, clang-19]\n"
    made = checked(tmp_path, plan, boards)
    found = resolve(made, made.plan.slots(), Silent())
    of_it = [cell for cell in found.cells if cell.slot.kernel == "stable"]
    assert [(str(cell.slot), cell.build) for cell in of_it] == [
        (f"stable/-/-/{board}/ours", f"key of {text}") for board in ("one", "a")
    ]
    assert (asked, len(found.cells), sources.fetched) == ([text], 2 + 8, ["7.4"])
    sources.salt = ", a newer one"
    again = resolve(made, made.plan.slots(), Silent())
    assert {cell.identity for cell in again.cells} & {cell.identity for cell in of_it} == set()


def test_the_list_says_that_toolchains_and_configurations_do_not_apply_to_a_built_kernel(lab: Lab) -> None:
    told = "-/-: the kernel was built elsewhere, so it comes once for all toolchains and configurations"
    assert told not in listed(lab.checked())
    lab.plan = PLAN.replace("7.3.4", "debian-image:@trixie")
    lines = listed(lab.checked())
    assert lines[0].startswith("stable/-/-/one/ours  build unknown")
    assert told in lines
    assert lines[-1].startswith("cells: 3, builds: 3; ")


def test_a_source_that_can_not_be_fetched_is_not_asked_for_again(tmp_path: Path, sources: Sources) -> None:
    sources.error = InfraError("no answer")
    made = checked(tmp_path, PLAN)
    found = resolve(made, made.plan.slots(), Silent())
    assert sources.fetched == ["7.3.4", "7.4"]
    assert (found.cells, {str(error) for error in found.problems.values()}) == ((), {"no answer"})


def test_a_toolchain_that_there_is_not_costs_only_its_own_cells(tmp_path: Path, sources: Sources) -> None:
    made = checked(tmp_path, PLAN + "toolchains: [gcc, gcc-99]\n")
    found = resolve(made, made.plan.slots(), Silent())
    assert {cell.slot.toolchain for cell in found.cells} == {"gcc"}
    assert {slot.toolchain for slot in found.problems} == {"gcc-99"}
    assert sources.fetched == ["7.3.4", "7.4"]


@pytest.mark.parametrize(
    "change",
    ["kernel", "cmdline", "suites", "keyword", "timeout_factor", "testcases", "nothing"],
)
def test_a_cell_is_another_one_when_any_of_its_inputs_is(
    change: str, tmp_path: Path, sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = ONE + "suites: {s: {suites: [testcases], keyword: x}}\n"

    def identity(plan: str, boards: str = BOARDS) -> str:
        made = checked(tmp_path, plan, boards)
        [cell] = resolve(made, made.plan.slots(), Silent()).cells
        return cell.identity

    before, boards = identity(plan), BOARDS
    match change:
        case "kernel":
            sources.salt = "moved"
        case "cmdline":
            boards = BOARDS.replace("one: {", "one: {cmdline: quiet, ")
        case "suites":
            plan = plan.replace("[testcases]", "[selftests/ftrace]")
        case "keyword":
            plan = plan.replace("keyword: x", "keyword: y")
        case "timeout_factor":
            plan += "defaults: {timeout_factor: 2.0}\n"
        case "testcases":
            monkeypatch.setattr(module, "key_of_testcases", lambda: "others")
    assert (identity(plan, boards) == before) == (change == "nothing")


def test_what_many_cells_have_in_common_is_read_once(
    tmp_path: Path, sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def key() -> str:
        read.append("testcases")
        return "key"

    monkeypatch.setattr(module, "key_of_testcases", key)
    made = checked(tmp_path, PLAN + "defaults: {repetitions: 100}\n")
    assert len(resolve(made, made.plan.slots(), Silent()).cells) == 400
    assert read == ["testcases"]
    assert len(sources.fetched) == 2


# --- what earlier runs took ------------------------------------------------------------------------------------------


def test_estimates_are_those_of_the_same_tests_on_such_boards(lab: Lab) -> None:
    """Of another plan: its nights are not here, but the history has its runs."""
    lab.plan = ONE + "suites: {mine: {suites: [testcases], keyword: x}}\n"
    lab.test_s = 120.0
    lab.play()
    shutil.rmtree(lab.out)
    made = lab.checked()
    told = listed(made)
    assert told[0] == "stable/gcc/default/one/mine  build unknown, tests about 2m00s"
    lab.plan = ONE + "suites: {mine: {suites: [testcases], keyword: y}}\n"
    assert listed(lab.checked())[0].endswith("tests unknown")


def test_what_earlier_builds_took_is_read_once_for_all_cells_that_are_alike(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lab's runs have neither fragments nor a toolchain on record, as those of a kernel that others built."""
    read: list[Path] = []

    def load(path: Path) -> Any:
        read.append(path)
        return SimpleNamespace(seconds=60.0)

    monkeypatch.setattr("harness.campaign.nightly.estimate.load_record", load)
    lab.plan = ONE
    lab.play()
    shutil.rmtree(lab.out)
    lab.plan = ONE.replace("7.3.4", "debian-image:@trixie") + "defaults: {repetitions: 50}\n"
    lines = listed(lab.checked())
    assert lines[49].startswith("stable/-/-/one/all/#50  build about 1m00s, ")
    assert len(read) == 1


# --- this machine ---------------------------------------------------------------------------------------------------


class Scripted(SideRuns):
    """Takes down the options of runs, and leaves what runs leave."""

    def __init__(self, cell: Cell) -> None:
        super().__init__([])
        self.words: list[str] = []
        self.cell = cell
        self.code = 0

    def run_words(self, options: Any, run_dir: Path) -> Ended:
        self.words = [str(word) for word in options]
        if self.code != 3:
            write_run(run_dir, self.cell, board="one", ends="FAIL" if self.code else "PASS", began=1.0, seconds=2.0)
        return Ended(code=self.code, results=None, last_line="the last line")


@pytest.fixture
def cell(lab: Lab) -> Cell:
    lab.plan = ONE + "suites: {s: {suites: [testcases, selftests/ftrace], keyword: x or y}}\ndefaults: {workers: 2}\n"
    made = lab.checked()
    return lab.resolve(made, made.plan.slots(), None).cells[0]


def executor(lab: Lab, cell: Cell, monkeypatch: pytest.MonkeyPatch) -> tuple[LocalExecutor, Scripted]:
    directory = lab.directory / "build"
    build_json(directory, kernel=30.0, collect=2.0)
    monkeypatch.setattr(local, "build_kernel", lambda *_: SimpleNamespace(directory=directory))
    runs = Scripted(cell)
    recipe: Any = Recipe(spec=None, options=None)  # type: ignore[arg-type]
    inventory = read_inventory(lab.directory / "boards.yaml")
    made = LocalExecutor({cell.build: recipe}, inventory=inventory, side_runs=runs, progress=Silent())
    assert made.build(cell) == 32.0
    return made, runs


def test_a_run_is_a_process_with_the_options_of_its_cell(
    lab: Lab, cell: Cell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    here, runs = executor(lab, cell, monkeypatch)
    tested = here.test(cell, "one", lab.directory)
    assert (tested.state, tested.code, tested.board, tested.seconds, tested.reason) == (
        State.TESTED,
        0,
        "one",
        2.0,
        "",
    )
    assert runs.words == [
        *("--build", str(tmp_path / "build"), "--board", "one", "--wait", "600"),
        *("--suite", "testcases", "--suite", "selftests/ftrace", "-k", "x or y", "--timeout-factor", "1.0", "-j", "2"),
    ]


def test_a_built_kernel_is_assembled(lab: Lab, cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = lab.directory / "build"
    build_json(directory, kernel=30.0, collect=2.0)
    made: list[object] = []

    def assemble(wish: object, **_: object) -> Any:
        made.append(wish)
        return SimpleNamespace(directory=directory)

    monkeypatch.setattr(local, "assemble", assemble)
    wish = object.__new__(Wish)
    here = LocalExecutor(
        {cell.build: Recipe(spec=wish, options=None)},  # type: ignore[arg-type]
        inventory=read_inventory(lab.directory / "boards.yaml"),
        side_runs=Scripted(cell),
        progress=Silent(),
    )
    assert here.build(cell) == 32.0
    assert made == [wish]
    assert here.test(cell, "one", lab.directory).state is State.TESTED


@pytest.mark.parametrize(("code", "state", "reason"), [(1, State.TESTED, ""), (3, None, "the last line")])
def test_how_a_run_ends_is_told_from_what_it_left(
    code: int, state: State | None, reason: str, lab: Lab, cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, runs = executor(lab, cell, monkeypatch)
    runs.code = code
    tested = here.test(cell, "one", lab.directory)
    assert (tested.state, tested.code, tested.reason) == (state, code, reason)


@fault(
    "the host gives no process for a run", where="host", blame=Blame.INFRA,
    survives="the night and the board, which is not blamed",
)  # fmt: skip
def test_a_run_that_this_host_can_not_start_is_no_failure_of_the_board(
    lab: Lab, cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> Any:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    here, runs = executor(lab, cell, monkeypatch)
    monkeypatch.setattr(runs, "run_words", partial(SideRuns.run_words, runs))
    monkeypatch.setattr(subprocess, "Popen", fails)
    with pytest.raises(Shortage, match="the run can't be started: Resource temporarily unavailable"):
        here.test(cell, "one", lab.directory)
    pauses: list[float] = []

    def paused(_calls: object, _until: object, seconds: float) -> bool:
        pauses.append(seconds)
        return False

    monkeypatch.setattr(threading.Condition, "wait_for", paused)
    monkeypatch.setattr(lab, "test", here.test)
    made, _ = lab.play()
    assert (made.exit_code, made.boards, lab.place.health()) == (3, (), {})
    assert pauses == [600.0] * 3  # in which others may end that leave no process for it
    assert set(states(made).values()) == {State.NO_RESULT}


def test_a_build_that_is_not_needed_any_more_may_leave_the_cache(
    lab: Lab, cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, _ = executor(lab, cell, monkeypatch)
    directory = lab.directory / "build"
    monkeypatch.setattr(
        local, "build_kernel", lambda *_: SimpleNamespace(directory=directory, hold=inuse.hold(directory))
    )
    here.build(cell)
    with inuse.nobody_uses(directory) as is_free:
        assert not is_free
    here.release(cell.build)
    with inuse.nobody_uses(directory) as is_free:
        assert is_free
    here.release(cell.build)


def test_nothing_is_begun_after_the_end(lab: Lab, cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    here, runs = executor(lab, cell, monkeypatch)
    here.stop()
    with pytest.raises(InfraError, match="the night was ended"):
        here.test(cell, "one", lab.directory)
    assert runs.words == []


def test_a_board_is_looked_at_by_its_checks(lab: Lab, cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    here, _ = executor(lab, cell, monkeypatch)
    assert "expected a serial device at /dev/serial/by-id/usb-x" in here.probe("a")


# --- the mail and the verb ------------------------------------------------------------------------------------------


def test_the_summary_is_mailed(lab: Lab) -> None:
    lab.says["stable/gcc/size/one/ours"] = ["FAIL"]
    made, here = lab.play()
    with mail_server() as server:
        told = mail(made, NightMail(to=("lab@example.org",), sender="ci@example.org", smtp=server.address))
        [sent] = server.mails
    assert told.endswith("to lab@example.org")
    assert sent["Subject"] == "[nightly plan] FAILING: 1 failing, 3 good of 4 cells"
    assert sent.get_content().splitlines() == (here.directory / "summary.txt").read_text().splitlines()


@pytest.mark.parametrize(
    ("wish", "told"),
    [
        (NightMail(to=("nobody",), sender="ci@example.org"), "--to: expected an address"),
        (NightMail(to=("lab@example.org",), sender="nobody"), "--from: expected an address"),
        (NightMail(to=("lab@example.org",), sender="ci@example.org", smtp="h:x"), "--smtp: expected HOST or HOST:PORT"),
    ],
)
def test_a_mail_that_could_not_be_sent_is_refused_before_the_night(wish: NightMail, told: str) -> None:
    with pytest.raises(UserError, match=told):
        check_mail(wish)


@pytest.fixture
def played(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """The verb plays the lab's nights."""
    monkeypatch.setattr(night_module, "play_here", lambda *_: lab.play())
    lab.checked()
    return lab


def called(lab: Lab, *words: str) -> click.testing.Result:
    fixed = ("--boards", str(lab.directory / "boards.yaml"), "--out", str(lab.out))
    given = ["nightly", str(lab.directory / "plan.yaml"), *fixed, *words]
    return click.testing.CliRunner().invoke(cli, given, standalone_mode=False)


def test_the_verb_prints_the_summary_and_returns_the_nights_code(played: Lab) -> None:
    assert called(played).return_value == 0
    played.says["stable/gcc/size/one/ours"] = ["FAIL"]
    done = called(played)
    assert done.return_value == 1
    assert "WORSE: 1 worse, 3 good of 4 cells\nsummary: " in done.stdout


@fault(
    "no mail server answers when the night is over", where="network", blame=Blame.INFRA,
    survives="the summary and its pages; the exit code of a night that found something",
)  # fmt: skip
def test_a_summary_that_can_not_be_mailed_is_there_all_the_same(played: Lab) -> None:
    words = ("--mail-to", "lab@example.org", "--from", "ci@example.org", "--smtp", "localhost:1")
    done = called(played, *words)
    assert done.return_value == 3
    assert "the summary was not mailed: " in done.stderr
    assert "OK: 4 good of 4 cells" in done.stdout
    played.says["stable/gcc/size/one/ours"] = ["FAIL"]
    assert called(played, *words).return_value == 1


def test_listing_and_a_dry_run_do_nothing(played: Lab, sources: Sources) -> None:
    told = called(played, "--list").stdout.splitlines()
    assert told[0] == "stable/gcc/default/one/ours  build unknown, tests unknown"
    assert told[-1].startswith("cells: 4, builds: 4; ")
    assert sources.fetched == []
    told = called(played, "--dry-run").stdout.splitlines()
    assert told[0].startswith("   1. ")
    assert " new; build unknown" in told[0]
    assert sources.fetched == ["7.3.4", "7.4"]
    assert not played.out.exists()


def test_the_schema_needs_no_plan() -> None:
    done = click.testing.CliRunner().invoke(cli, ["nightly", "--schema"])
    assert (done.exit_code, done.stdout[0]) == (0, "{")
