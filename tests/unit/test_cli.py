"""The command line: exit codes, one clear line for wrong input, help with an example on every verb."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click.testing
import pytest

from harness import __version__
from harness.cli import main
from harness.cli.main import cli
from harness.model.board import CommandConsole
from harness.run import session
from harness.target.holding import lock
from harness.target.holding.held import machine_of
from tests.boards import spec
from tests.command import harness
from tests.faults.catalogue import Blame, fault

VERBS = sorted(cli.commands)


def test_version(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "harness", "--version"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith(__version__)
    assert harness("--version", cwd=tmp_path).stdout == done.stdout


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(verb: str) -> None:
    told = click.testing.CliRunner().invoke(cli, [verb, "--help"])
    assert told.exit_code == 0
    assert re.search(rf"Examples?:.*harness {verb}", told.output, re.DOTALL)


def test_help_names_the_suites_that_there_are() -> None:
    told = " ".join(click.testing.CliRunner().invoke(cli, ["run", "--help"], terminal_width=200).output.split())
    assert f"One of {', '.join(session.SUITES)} or a directory" in told


HEAVY = (
    "pytest",
    "jinja2",
    "rich",
    "junit_xml",
    "elftools",
    "paramiko",
    "svg",
    "waitress",
    "werkzeug",
    "dask",
    "distributed",
    "harness.campaign.mutants",
    "harness.build.make",
)


@pytest.mark.parametrize(
    "arguments",
    [["boards"], ["boot", "--board", "b", "--", "true"], ["run", "--board", "b"], ["--version"], ["--help"]],
)
def test_what_ends_at_once_imports_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    """A board that is not there has to be told quickly, also where importing is slow."""
    (tmp_path / "b.yaml").write_text(ABSENT)
    program = (
        f"import sys, atexit; sys.argv = ['harness', *{arguments!r}]\n"
        f"atexit.register(lambda: print(sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr))\n"
        "from harness.cli.main import main; main()"
    )
    environment = {**os.environ, "HARNESS_BOARDS": str(tmp_path / "b.yaml"), "HARNESS_LOCKS": str(tmp_path)}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == (3 if "b" in arguments else 0)
    assert ("expected a serial device at /dev/serial/by-id/usb-x" in done.stderr) == ("b" in arguments)
    assert done.stderr.splitlines()[-1] == "[]"


def test_a_directory_for_logs_is_made_without_what_reports_need(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from harness.run.directory import new_directory\n"
        f"new_directory(Path({str(tmp_path)!r}), ''); print(sorted({{'jinja2', 'junit_xml'}} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_worker_starts_without_what_reads_the_users_files() -> None:
    """It is told what they say, and each of -j workers would import it."""
    program = (
        "import sys, harness.run.fixtures, harness.run.workers.worker\n"
        "print(sorted({'pydantic', 'yaml'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"


ABSENT = """
boards:
  b:
    console: {kind: serial, device: /dev/serial/by-id/usb-x}
    power: {kind: tasmota, host: h}
    boot: {method: uboot, tftp_root: /t}
"""


POOL = """
defaults:
  lab:
    console: {kind: serial, device: /dev/serial/by-id/usb-x}
    power: {kind: tasmota, host: h}
    boot: {method: uboot, tftp_root: /t}
    pool: equal
boards:
  a: {like: lab, kconfigs: [x.config]}
  b: {like: lab, kconfigs: [y.config]}
"""


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["frobnicate"], "No such command 'frobnicate'"),
        (["boot", "--board", "rpi5", "--", "true"], "--board: expected one of rpi3, rpi4, "),
        (["build", "--kernel", "{tmp}/nowhere"], "nowhere"),
        (["build", "--patches", "{tmp}/nowhere.patch"], "nowhere.patch"),
        (["build", "--kconfig", "{tmp}/nowhere.config"], "nowhere.config, found none; ours are "),
        (["build", "--kconfig", "{tmp}"], ", found something else"),
        (["build", "--kconfig", "variants/sise"], "variants/sise, found none; ours are variants/size, "),
        (["build", "--kconfig", "modules-fra.config"], "found none; ours are modules-far, "),
        (["run", "--suite", "functoin"], "--suite: expected one of testcases/function, testcases/function_graph, "),
        (["run", "--build", "{tmp}"], "expected a finished build"),
        (["run", "-j", "0"], "expected a number above 0 or auto, found '0'"),
        (["run", "--board", "rpi4", "-j", "2"], "-j 2: expected a board that has equal ones, rpi4 has no `pool`; give"),
        (["run", "--boards", "{tmp}/pool.yaml", "--board", "a"], "boards.b.kconfigs: expected 'x.config', as boards.a"),
        (["run", "--board", "rpi4", "--isolation", "file"], "--isolation file: expected a board that has snapshots"),
        (
            ["run", "--expectations", "{tmp}/nowhere.yaml"],
            "nowhere.yaml: expected a file of known outcomes",
        ),
        (["run", "--expectations", "{tmp}/known.yaml"], "known.yaml: expectations.0.fault: expected a pattern of the"),
        (["boot"], "expected a terminal on standard input"),
        (["run", "--build", "{tmp}", "--patches", "{tmp}/x.patch"], "can't change it"),
        (["boot", "--board", "rpi4", "--build", "{tmp}", "--toolchain", "gcc-11", "--", "true"], "can't change it"),
        (["run", "--board", "rpi4", "--build", "{tmp}", "--kernel", "7.3.4"], "can't change it"),
        (["init"], "Missing argument 'DIR'"),
        (["init", "{tmp}"], "boards.yaml: already exists"),
        (["boards", "--boards", "{tmp}/date.yaml"], "expected a YAML document"),
        (["build", "--boards", "{tmp}/typo.yaml", "--board", "b"], "boards.yaml: b.kconfigs: expected a file"),
        (["mutants", "--only", "x8-not-restord"], "shows, such as x8-not-restored, x7-not-restored, "),
        (["mutants", "--build", "{tmp}"], "a mutant has to be built"),
        (["report", "{tmp}/nowhere"], "expected the directory of a run"),
        (["inspect", "{tmp}/nowhere"], "found that it can't be read: No such file or directory"),
        (["inspect", "--compare", "{tmp}"], "--compare: expected two files, found 1"),
        (["boards", "--boards", "{tmp}/nowhere.yaml"], "nowhere.yaml"),
        (["boards", "check", "uboot"], "expected one of uboot-board, "),
        (["run", "--wait", "--out=-x", "--board", "none"], "--board: expected one of"),
        (["boot", "--wait=soon", "--", "true"], "'--wait': expected a number from 0, found 'soon'"),
        (["boot", "--wait=-1", "--", "true"], "'--wait': expected a number from 0, found '-1'"),
        (["boot", "--wait", "-1", "--", "true"], "'--wait': expected a number from 0, found '-1'"),
        (["web", "--history", "{tmp}/nowhere"], "nowhere: expected a history, found none"),
        (["run", "--wait=-inf"], "'--wait': expected a number from 0, found '-inf'"),
        (["run", "--wait=nan"], "'--wait': expected a number from 0, found 'nan'"),
        (["run", "--timeout-factor", "nan"], "'--timeout-factor': expected a number from 0.01, found 'nan'"),
        (["run", "--hammer-seconds", "nan"], "'--hammer-seconds': expected a number from 0.1 to 86400, found 'nan'"),
    ],
)
def test_wrong_input_is_exit_2_and_one_clear_line(arguments: list[str], told: str, tmp_path: Path) -> None:
    (tmp_path / "known.yaml").write_text("expectations: [{test: t, verdict: CRASH, reason: r}]")
    (tmp_path / "date.yaml").write_text("boards: 2020-13-45")
    (tmp_path / "boards.yaml").write_text("boards: {}")
    (tmp_path / "pool.yaml").write_text(POOL)
    (tmp_path / "typo.yaml").write_text("boards: {b: {boot: {method: qemu}, kconfigs: [typo.config]}}")
    done = harness(*(word.format(tmp=tmp_path) for word in arguments), cwd=tmp_path)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_the_tests_of_a_finished_build_are_listed_without_any_host_tool(tmp_path: Path) -> None:
    record = {"key": "k", "release": "7.3.4", "without": {}, "test_modules_left_out": {}}
    (tmp_path / "build.json").write_text(json.dumps(record))
    (tmp_path / ".config").write_text("")
    done = harness("run", "--build", str(tmp_path), "--list", "-k", "test_ops", cwd=tmp_path, PATH="/nowhere")
    assert done.returncode == 0, done.stderr
    assert "testcases/regs/test_ops.py::" in done.stdout


def test_each_verb_has_a_file_of_its_own() -> None:
    files = {path.stem for path in Path(main.__file__).parent.glob("[a-z]*.py")}
    assert files - set(VERBS) == {"main", "options", "output"}


def test_boards_are_listed_with_their_pool(tmp_path: Path) -> None:
    (tmp_path / "pool.yaml").write_text(POOL.replace("y.config", "x.config"))
    told = click.testing.CliRunner().invoke(cli, ["boards", "--boards", str(tmp_path / "pool.yaml")])
    assert [line.strip() for line in told.output.splitlines()].count("pool equal") == 2


def test_boards_come_from_the_file_named_in_the_environment(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text("boards: {mine: {boot: {method: qemu, cpus: 3}}}")
    done = harness("boards", cwd=tmp_path, HARNESS_BOARDS=str(tmp_path / "b.yaml"))
    assert done.returncode == 0
    assert re.match(r"mine\s+qemu virt, tcg|kvm, 3 CPUs, 1024 MiB", done.stdout)


SHARED = """
defaults:
  cat:
    power: {kind: command, on: "true", off: "true"}
    boot: {method: uboot, tftp_root: .}
boards:
  one: {like: cat, console: {kind: command, run: [cat, -u]}}
  two: {like: cat, console: {kind: command, run: [cat, -v]}}
"""


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Two boards, of which another file's `mine`, which we have, is the first."""
    monkeypatch.setenv("HARNESS_LOCKS", str(tmp_path / "locks"))
    (tmp_path / "b.yaml").write_text(SHARED)
    mine = machine_of(spec("mine", console=CommandConsole(argv=("cat", "-u"))))
    with lock.acquired("mine", mine, purpose="harness run --board mine"):
        yield {"cwd": tmp_path, "HARNESS_BOARDS": "b.yaml"}


SECRETS = """
boards:
  web:
    console: {kind: command, run: "echo up; exec false ${PW}"}
    power: {kind: http, on: {url: "http://127.0.0.1:9/hook/t0k/${PW}?key=k3y", headers: {X-Key: h3d}},
      off: {url: "http://127.0.0.1:9/off"}, user: me, password: p4w}
    boot: {method: uboot, tftp_root: .}
  plug:
    console: {kind: command, run: [no-such-program, -P, "${PW}"]}
    power: {kind: tasmota, host: "127.0.0.1:9", password: "${PW}"}
    boot: {method: uboot, tftp_root: .}
  wrong:
    console: {kind: command, run: cat}
    power: {kind: shelly, host: h, password: 731}
    boot: {method: uboot, tftp_root: .}
"""


@fault(
    "boards with secrets of three characters, consoles that end at once and switches that are off",
    where="power",
    blame=Blame.INFRA,
    survives="every secret: lists, checks and refusals of the command show none",
)
def test_no_command_shows_a_short_secret(tmp_path: Path) -> None:
    environment: dict[str, Any] = {
        "cwd": tmp_path,
        "HARNESS_BOARDS": "b.yaml",
        "PW": "q7z",
        "HARNESS_LOCKS": str(tmp_path / "locks"),
    }
    (tmp_path / "b.yaml").write_text(SECRETS.partition("  wrong:")[0])
    said, codes = "", []
    for words in (
        ["boards"],
        *(["boards", "check", name] for name in ("web", "plug")),
        *(["boot", "--board", name, "--build", "nowhere"] for name in ("web", "plug")),
    ):
        done = harness(*words, **environment)
        said += done.stdout + done.stderr
        codes.append(done.returncode)
    assert codes == [0, 3, 3, 3, 3]
    assert "console sh -c 'echo up; exec false ***'" in said
    assert "no-such-program -P '***'" in said
    assert "http://127.0.0.1:9/cm?cmnd=Power1" in said
    (tmp_path / "b.yaml").write_text(SECRETS)
    wrong = harness("boards", **environment)
    assert wrong.returncode == 2
    assert "boards.wrong.power.password: expected a string, found another value (not shown" in wrong.stderr
    for secret in ("q7z", "t0k", "k3y", "h3d", "p4w", "731"):
        assert secret not in said + wrong.stderr, secret


def test_boards_tells_who_has_which(shared: dict[str, Any]) -> None:
    told = harness("boards", **shared).stdout
    assert re.search(rf"one .*\n {{17}}in use by .*, process {os.getpid()}: harness run --board mine\ntwo .*\n$", told)


@pytest.mark.parametrize("verb", [["run"], ["boot", "--", "true"]])
def test_a_board_that_is_used_is_refused_before_anything_is_built(verb: list[str], shared: dict[str, Any]) -> None:
    done = harness(verb[0], "--board", "one", "--build", "nowhere", *verb[1:], **shared)
    assert done.returncode == 3
    assert re.fullmatch(r"harness: one: in use by .*: harness run --board mine; `--wait` waits .*\n", done.stderr)
    other = harness(verb[0], "--board", "two", "--build", "nowhere", *verb[1:], **shared)
    assert "expected a finished build" in other.stderr


def test_who_waits_builds_first(shared: dict[str, Any]) -> None:
    done = harness("run", "--board", "one", "--wait", "--build", "nowhere", **shared)
    assert "expected a finished build" in done.stderr


def test_checks_of_a_board(shared: dict[str, Any]) -> None:
    done = harness("boards", "check", "two", **shared)
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [
        ["ok", "console"],
        ["ok", "power"],
        ["ok", "tftp_root"],
        ["unseen", "tftp"],
        ["ok", "kconfigs"],
    ]
    assert done.returncode == 0
    done = harness("boards", "--boards", "b.yaml", "check", "one", cwd=shared["cwd"])
    assert re.search(r"FAILED  console +one: in use by .*: harness run --board mine", done.stdout)
    assert "ok      power       true is installed, true is installed" in done.stdout
    assert done.returncode == 3
    assert "one: 1 of these checks failed" in done.stderr


def test_a_board_is_looked_at_though_values_are_missing(tmp_path: Path) -> None:
    text = ABSENT.replace("host: h", 'host: "${NOWHERE}"') + "    kconfigs: [no-such.config]\n"
    (tmp_path / "b.yaml").write_text(text)
    done = harness("boards", "check", "b", "--boards", "b.yaml", cwd=tmp_path)
    assert done.returncode == 3
    assert "FAILED  values      power.host: expected the environment variable NOWHERE to be set" in done.stdout
    assert "FAILED  console     b.console: expected a serial device" in done.stdout
    assert "unseen  power       not checked: values of power are missing" in done.stdout
    assert re.search("FAILED  kconfigs    b.kconfigs: expected files below .*, found no no-such.config", done.stdout)


def test_a_board_may_have_a_fragment_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "mine.config").write_text("CONFIG_X=y\n")
    (tmp_path / "b.yaml").write_text(f"boards: {{b: {{boot: {{method: qemu}}, kconfigs: [{tmp_path}/mine.config]}}}}")
    done = harness("boards", "check", "b", "--boards", "b.yaml", cwd=tmp_path)
    assert f"ok      kconfigs    {tmp_path}/mine.config" in done.stdout


def test_the_schema_is_printed(tmp_path: Path) -> None:
    assert json.loads(harness("boards", "--schema", cwd=tmp_path).stdout)["title"] == "boards.yaml"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_code(shell: str, tmp_path: Path) -> None:
    done = harness("completion", shell, cwd=tmp_path)
    assert done.returncode == 0
    assert "_HARNESS_COMPLETE" in done.stdout


def test_boards_are_completed(tmp_path: Path) -> None:
    words = {"_HARNESS_COMPLETE": "bash_complete", "COMP_WORDS": "harness boot --board q", "COMP_CWORD": "3"}
    program = "import sys; sys.argv = ['harness']; from harness.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **words},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "qemu-virt" in done.stdout


def test_a_mistake_of_ours_is_one_line_and_a_file_to_report(tmp_path: Path) -> None:
    program = (
        "import sys, harness.cli.boards as b; from harness.cli.main import main; sys.argv = ['harness', 'boards'];"
        "b.read_inventory = lambda *a, **k: 1 / 0; main()"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "internal error: ZeroDivisionError" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Traceback" in next(tmp_path.rglob("internal-error-*.log")).read_text()
