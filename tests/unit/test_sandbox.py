"""The sandbox of builds: what a hostile series sees from a toy kernel's Makefile, and what it leaves.

Every probe runs without the sandbox as well, where it has to succeed: otherwise seeing nothing would prove nothing."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.build import sandbox
from harness.build.command import run
from harness.build.finished import load_record
from harness.build.process import run_logged
from harness.build.sandbox import Sandbox, SandboxTool, View
from harness.errors import BuildError, InfraError, UserError
from tests.faults.catalogue import Blame, fault
from tests.unit.numbered import patch
from tests.unit.test_make import Toy, toy
from tests.unit.toytree import write_script

__all__ = ["toy"]
USERS = [None, sandbox.BUILD_USER] if os.geteuid() == 0 else [None]
BOXES = [Sandbox(tool=tool, user=user) for user in USERS for tool in SandboxTool]

# How long a process sleeps that must not be left: nobody else's does as long.
UNIQUE = str(1_000_000_000 + os.getpid())

# What a series may try; each line of its answer begins with a word for what was tried.
PROBE = r"""
exec > "$1" 2> /dev/null
env | sed 's/^/env /'
echo "user $(id -u)"
sed -n 's/^CapEff:[[:space:]]*/capabilities /p' /proc/self/status
echo "home $(cat @HOME@/secret)"
ls -A "$HOME" | sed 's/^/in-home /'
bash -c 'exec 3<> /dev/tcp/127.0.0.1/@PORT@ && echo network reached'
for path in @OUTSIDE@/planted @SOURCE@/planted @STATE@/planted /usr/planted-by-a-test; do
    touch "$path" && echo "wrote $path"
done
rm -f /usr/planted-by-a-test
grep -al '[b]ait-process' /proc/[0-9]*/cmdline | sed 's/^/process /'
sed -n 's/^Max processes *\([0-9]*\) .*/processes \1/p' /proc/self/limits
unshare --user --map-root-user sed -n 's/^CapEff:[[:space:]]*/nested /p' /proc/self/status
setsid sleep @UNIQUE@ < /dev/null > /dev/null 2>&1 &
echo "left $!"
"""


@dataclass
class Bait:
    """What a build must not find: a home directory, a directory anybody may write to, a listener, a process."""

    toy: Toy
    home: Path
    outside: Path
    listener: socket.socket

    def hostile(self, recipe: str) -> None:
        """Have a patch make the Makefile run `recipe` in each make."""
        lines = (self.toy.tree / "Makefile").read_text().splitlines(keepends=True)
        self.toy.edits["Makefile"] = "".join([*lines[:3], f"tried := $(shell {recipe})\n", *lines[3:]])

    def probe(self) -> dict[str, list[str]]:
        """Build with the probe in the series; what it answered, by its first words."""
        workspace = self.toy.directory / "cache/arm64-ftrace-harness/workspaces"
        script = (
            PROBE.replace("@HOME@", str(self.home))
            .replace("@PORT@", str(self.listener.getsockname()[1]))
            .replace("@UNIQUE@", UNIQUE)
            .replace("@OUTSIDE@", str(self.outside))
            .replace("@SOURCE@", "$(pwd)")
            .replace("@STATE@", f"$(echo {workspace}/*/made-*/stages)")
        )
        lines = script.strip().splitlines()
        self.toy.patches = [
            patch(
                "diff --git a/scripts/probe.sh b/scripts/probe.sh\nnew file mode 100644\n--- /dev/null\n"
                f"+++ b/scripts/probe.sh\n@@ -0,0 +1,{len(lines)} @@\n" + "".join(f"+{line}\n" for line in lines)
            )
        ]
        self.hostile("sh scripts/probe.sh $(O)/saw")
        self.toy.build()
        (answer,) = workspace.glob("*/obj-*/saw")
        found: dict[str, list[str]] = {}
        for line in answer.read_text().splitlines():
            word, _, rest = line.partition(" ")
            found.setdefault(word, []).append(rest)
        return found

    def was_called(self) -> bool:
        """Whether anybody has connected to the listener."""
        self.listener.setblocking(False)
        try:
            self.listener.accept()[0].close()
        except BlockingIOError:
            return False
        return True


@pytest.fixture(params=BOXES, ids=str)
def box(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """Each sandbox that this host lets us have."""
    if "toy" not in request.fixturenames:  # which has a cache of its own
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert isinstance(request.param, Sandbox)
    if why := sandbox._trial(request.param):
        pytest.skip(f"this host refuses {request.param}: {why}")
    return request.param


@pytest.fixture
def boxed(toy: Toy) -> Toy:
    """A toy that is built in the host's own sandbox."""
    if not toy.is_sandboxed:
        pytest.skip("this host lets builds have no sandbox")
    return toy


@pytest.fixture
def bait(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bait]:
    home, outside = tmp_path / "home", tmp_path / "outside"
    home.mkdir()
    (home / "secret").write_text("the key\n")
    outside.mkdir(mode=0o777)
    outside.chmod(0o777)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("BOARD_PASSWORD", "the password")
    monkeypatch.setenv("SSH_AUTH_SOCK", str(home / "agent"))
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", "bait-process"])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield Bait(toy, home, outside, listener)
    process.kill()
    process.wait()


def use(box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have builds use this sandbox."""
    monkeypatch.setattr(sandbox, "_candidates", lambda: [box])


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def processes(word: str) -> list[int]:
    """The processes of this host with `word` among their arguments."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if word.encode() in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return [pid for pid in found if running(pid)]


def wait_until(condition: object) -> bool:
    assert callable(condition)
    deadline = time.monotonic() + 20
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return bool(condition())


# -- what a series sees ------------------------------------------------------------------------------------------


@fault(
    "a series whose Makefile reads the home directory, the environment, the network and other processes",
    where="hostile input",
    blame=Blame.NOBODY,
    survives="all of it unseen; files outside the workspace, the source tree, the records of stages",
)
def test_a_series_sees_nothing(bait: Bait, box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    use(box, monkeypatch)
    saw = bait.probe()
    names = {line.partition("=")[0] for line in saw["env"]}
    assert names & {"BOARD_PASSWORD", "SSH_AUTH_SOCK", "XDG_CACHE_HOME"} == set()
    assert {"HOME=/tmp/home", "LC_ALL=C"} <= set(saw["env"])
    assert not any(secret in line for line in saw["env"] for secret in ("the password", "the key"))
    assert saw["home"] == [""]
    assert "in-home" not in saw
    assert "network" not in saw
    assert not bait.was_called()
    assert "wrote" not in saw
    assert list(bait.outside.iterdir()) == []
    assert "process" not in saw
    assert saw["capabilities"] == ["0000000000000000"]
    assert "nested" not in saw
    assert int(saw["processes"][0]) < 100_000
    if box.user is not None:
        assert saw["user"] == [str(box.user)]
    assert processes(UNIQUE) == []  # the makes have ended, and with them all that they started


def test_without_the_sandbox_it_would_have_seen_everything(bait: Bait, monkeypatch: pytest.MonkeyPatch) -> None:
    bait.toy.is_sandboxed = False
    saw = bait.probe()
    try:
        assert {"BOARD_PASSWORD=the password", f"HOME={bait.home}"} <= set(saw["env"])
        assert saw["home"] == ["the key"]
        assert "secret" in saw["in-home"]
        assert saw["network"] == ["reached"]
        assert bait.was_called()
        assert len(saw["wrote"]) >= 3
        assert (bait.outside / "planted").is_file()
        assert saw["process"]
        assert ("nested" in saw) == (subprocess.run(["unshare", "--user", "true"]).returncode == 0)
        assert saw["user"] == [str(os.geteuid())]
        assert set(map(int, saw["left"])) & set(processes(UNIQUE))
    finally:
        for pid in processes(UNIQUE):
            os.kill(pid, signal.SIGKILL)


# -- what a series leaves ----------------------------------------------------------------------------------------

LEAVES = [
    pytest.param(
        "ln -sf @OUT@/victim $(O)/.config.partial",
        r"obj-\w+/\.config\.partial, a symbolic link that leads out of obj-",
        id="link",
        marks=fault(
            "a build leaves a link out of the workspace where the harness writes next",
            where="hostile input",
            blame=Blame.KERNEL,
            survives="the file that the link names; the next build",
        ),
    ),
    pytest.param(
        "rm -rf $(O)/arch; ln -s @OUT@ $(O)/arch",
        r"obj-\w+/arch, a symbolic link that leads out",
        id="directory",
        marks=fault(
            "a build leaves a link to another directory in place of one of its own",
            where="hostile input",
            blame=Blame.KERNEL,
            survives="that directory; the next build",
        ),
    ),
    pytest.param(
        "rm -f $(O)/System.map; mkfifo $(O)/System.map",
        r"obj-\w+/System\.map, which is neither a file nor a directory",
        id="pipe",
        marks=fault(
            "a build leaves a pipe where the harness reads next",
            where="hostile input",
            blame=Blame.KERNEL,
            survives="the harness, which does not wait; the next build",
        ),
    ),
    pytest.param(
        "cp /bin/true $(O)/tool; chmod 4755 $(O)/tool",
        r"obj-\w+/tool, a set-user-ID or set-group-ID file",
        id="set-id",
        marks=fault(
            "a build leaves a set-user-ID program",
            where="hostile input",
            blame=Blame.KERNEL,
            survives="no such file; the next build",
        ),
    ),
]


@pytest.mark.usefixtures("boxed")
@pytest.mark.parametrize(("recipe", "told"), LEAVES)
def test_what_leads_out_of_the_workspace_ends_the_build(bait: Bait, recipe: str, told: str) -> None:
    victim = bait.outside / "victim"
    victim.write_text("untouched")
    bait.hostile(recipe.replace("@OUT@", str(bait.outside)))
    with pytest.raises(BuildError, match=told):
        bait.toy.build()
    assert victim.read_text() == "untouched"
    assert [path.name for path in bait.outside.iterdir()] == ["victim"]
    bait.toy.edits.clear()
    bait.toy.unpublish()
    assert (bait.toy.build().directory / "vmlinux").read_text().startswith("int sched")
    assert not list(bait.toy.directory.rglob("cache/**/workspaces/*/obj-*/tool"))


WRONG = [
    pytest.param("@echo configure >> $(O)/calls", "mkdir -p $(O)/.config.partial", id="one to write"),
    pytest.param("@touch $(O)/System.map", "rm $(O)/System.map; mkdir $(O)/System.map", id="one to copy"),
    pytest.param("@touch $(O)/System.map", "cd $(O)/include/config; rm *; mkdir kernel.release", id="one to read"),
]


@pytest.mark.usefixtures("boxed")
@pytest.mark.parametrize(("behind", "recipe"), WRONG)
@fault(
    "a build leaves a directory where kbuild makes a file",
    where="hostile input",
    blame=Blame.KERNEL,
    survives="the next build",
)
def test_what_no_kbuild_makes_is_the_builds_fault(toy: Toy, behind: str, recipe: str) -> None:
    (toy.directory / "our.config").write_text("CONFIG_TWO=y\n")
    makefile = (toy.tree / "Makefile").read_text()
    toy.edits["Makefile"] = makefile.replace(f"\t{behind}\n", f"\t{behind}\n\t{recipe}\n")
    with pytest.raises(BuildError, match=r"obj-\w+/.*: expected what kbuild makes there|made no System\.map"):
        toy.build()
    toy.edits.clear()
    toy.unpublish()
    assert toy.build().directory.is_dir()


@fault(
    "a make that prints without end",
    where="hostile input",
    blame=Blame.USER,
    survives="the disk; the next build",
)
def test_a_make_that_prints_without_end_is_stopped(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_LIMIT_BUILD_LOG_BYTES", "100000")
    makefile = (toy.tree / "Makefile").read_text()
    toy.edits["Makefile"] = makefile.replace("\t@echo kernel >>", "\t@yes flood\n\t@echo kernel >>")
    with pytest.raises(UserError, match=r"the output of make: .* 100000 bytes .*HARNESS_LIMIT_BUILD_LOG_BYTES"):
        toy.build()
    assert (toy.workspace / f"made-{toy.objects.name[4:]}/build.log").stat().st_size < 200_000
    toy.edits.clear()
    toy.unpublish()
    assert toy.build().directory.is_dir()


def test_a_line_without_end_is_logged_in_pieces(tmp_path: Path) -> None:
    words = ["sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x; echo; echo last"]
    code, lines = run_logged(words, log=tmp_path / "log", limit=60)
    assert code == 0
    assert len("".join(lines)) == 3_000_000 + len("last")
    assert lines[-1] == "last"
    assert max(map(len, lines)) < 2_000_000


@pytest.mark.usefixtures("boxed")
def test_what_an_interrupted_build_left_is_thrown_away(toy: Toy, tmp_path: Path) -> None:
    left = toy.objects / ".config.partial"
    left.symlink_to(tmp_path / "victim")
    toy.edits["kernel/sched.c"] = "int sched; /* edited */\n"
    assert "edited" in (toy.build().directory / "vmlinux").read_text()
    assert not (tmp_path / "victim").exists()
    assert not left.is_symlink()


@fault(
    "a kernel release that is a path out of the payload",
    where="hostile input",
    blame=Blame.KERNEL,
    survives="what is at that path",
)
def test_a_release_that_is_a_path_is_refused(bait: Bait) -> None:
    makefile = (bait.toy.tree / "Makefile").read_text()
    bait.toy.edits["Makefile"] = makefile.replace("echo 7.3.4 >", f"echo {bait.outside} >")
    with pytest.raises(BuildError, match=rf"kernel release: expected a name of .*, found '{str(bait.outside)[:50]}"):
        bait.toy.build()
    assert list(bait.outside.iterdir()) == []


@pytest.mark.usefixtures("boxed")
@pytest.mark.parametrize("recipe", ["kernel", "configure"])
def test_a_tree_that_writes_to_itself_is_told_what_to_do(toy: Toy, recipe: str) -> None:
    """Not that the host's file system has to be made writable."""
    line = f"@echo {recipe} >> $(O)/calls\n"
    makefile = (toy.tree / "Makefile").read_text()
    toy.edits["Makefile"] = makefile.replace(line, f"{line}\ttouch made-in-the-tree\n", 1)
    with pytest.raises(BuildError, match=r"writes outside the directories .* --no-sandbox") as raised:
        toy.build()
    assert "made-in-the-tree" in raised.value.details[0]
    toy.is_sandboxed = False
    assert toy.build().directory.is_dir()


# -- which sandbox there is --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("boxed")
def test_a_build_says_what_it_was_built_in(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    def told() -> str:
        return load_record(toy.build().directory).kernel.sandbox

    assert told() == str(sandbox.find_sandbox().tool)
    for box in reversed(sandbox._candidates()):
        use(box, monkeypatch)
        toy.unpublish()
        assert told() == str(box.tool)
    toy.is_sandboxed = False
    toy.unpublish()
    assert told() == "none"


@pytest.mark.usefixtures("boxed")
def test_a_build_without_a_sandbox_does_not_run_what_another_left(toy: Toy) -> None:
    toy.unpublish()
    toy.is_sandboxed = False
    toy.build()
    workspaces = (toy.directory / "cache/arm64-ftrace-harness/workspaces").iterdir()
    assert len([path for path in workspaces if path.is_dir()]) == 2


@fault(
    "a host or container that refuses namespaces",
    where="host",
    blame=Blame.INFRA,
    survives="nothing of the tree has run; the message names --no-sandbox",
)
def test_where_no_sandbox_works_nothing_is_built(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("bwrap", "unshare"):
        write_script(toy.directory / "tools" / name, f'echo "{name}: Operation not permitted" >&2; exit 1\n')
    toy.unpublish()
    toy.is_sandboxed = True
    toy.edits["kernel/sched.c"] = "int sched; /* edited */\n"
    with pytest.raises(InfraError, match=r"no sandbox works.*--no-sandbox") as raised:
        toy.build()
    refused = {re.sub(r", as [^:]*", "", line) for line in raised.value.details}
    assert refused >= {"bubblewrap: bwrap: Operation not permitted", "unshare: unshare: Operation not permitted"}
    assert toy.calls() == []
    row = sandbox.doctor_row()
    assert not row.ok
    assert "--no-sandbox" in row.remedy


@pytest.mark.usefixtures("box")
@pytest.mark.parametrize("box", [each for each in BOXES if each.tool is SandboxTool.UNSHARE], indirect=True, ids=str)
def test_unshare_takes_the_place_of_bubblewrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_script(tmp_path / "tools/bwrap", "exit 1\n")
    monkeypatch.setenv("PATH", f"{tmp_path / 'tools'}:{os.environ['PATH']}")
    assert sandbox.find_sandbox().tool is SandboxTool.UNSHARE
    row = sandbox.doctor_row()
    assert row.ok
    assert "bubblewrap" in row.remedy


# -- how its programs end ----------------------------------------------------------------------------------------


def test_programs_end_with_the_harness(box: Sandbox, tmp_path: Path) -> None:
    """Also one that has made a session of its own."""
    code = (
        "import sys; from pathlib import Path\n"
        "from harness.build.command import run; from harness.build import sandbox\n"
        f"box = sandbox.Sandbox(tool=sandbox.SandboxTool({str(box.tool)!r}), user={box.user})\n"
        "inside = box.confine(sandbox.View(root=Path(sys.argv[1])))\n"
        f"run(['sh', '-c', 'setsid sleep {UNIQUE} & sleep {UNIQUE}'], timeout=600, confinement=inside)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, tmp_path]) as harness:
        assert wait_until(lambda: len(processes(UNIQUE)) >= 2)
        harness.kill()
    assert wait_until(lambda: not processes(UNIQUE))


def test_programs_end_at_their_time_limit(box: Sandbox, tmp_path: Path) -> None:
    inside = box.confine(View(root=tmp_path))
    words = ["sh", "-c", f"setsid sleep {UNIQUE} & sleep {UNIQUE}"]
    with pytest.raises(InfraError, match=r"sh -c .*: did not end within 1 s"):
        run(words, timeout=1, confinement=inside)
    assert processes(UNIQUE) == []


def test_nothing_runs_any_more_once_a_program_has_ended(box: Sandbox, tmp_path: Path) -> None:
    """At once, not soon: what is checked then must not change any more."""
    inside = box.confine(View(root=tmp_path))
    for _ in range(5):
        run(["sh", "-c", f"setsid sleep {UNIQUE} > /dev/null 2>&1 &"], timeout=60, confinement=inside)
        assert processes(UNIQUE) == []


def test_exit_codes_and_output_pass_through(box: Sandbox, tmp_path: Path) -> None:
    inside = box.confine(View(root=tmp_path))
    done = run(["sh", "-c", "echo out; echo err >&2; exit 7"], timeout=60, confinement=inside)
    assert (done.status, done.stdout, done.stderr) == (7, "out\n", "err\n")


# -- what it shows -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("boxed")
def test_a_toolchain_elsewhere_is_seen_but_not_what_lies_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    home = tmp_path / "home"
    gcc = write_script(home / "bin/toy-gcc", f"cat {home}/lib/specs; cat {home}/secret; cat {home}/.config/token\n")
    for name in ("lib/specs", "secret", ".config/token"):
        (home / name).parent.mkdir(exist_ok=True)
        (home / name).write_text(f"{name}\n")
    monkeypatch.setenv("PATH", f"{gcc.parent}:{os.environ['PATH']}")
    inside = sandbox.find_sandbox().knowing(["toy-gcc"]).confine(View(root=tmp_path / "cache"))
    assert run(["toy-gcc"], timeout=60, confinement=inside).stdout == "lib/specs\n"


@pytest.mark.usefixtures("boxed")
def test_rustups_compilers_are_seen_but_not_cargos_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RUSTUP_HOME", raising=False)
    cargo = tmp_path / ".cargo"
    write_script(cargo / "bin/rustup", f'"$RUSTUP_HOME/toolchains/x/bin/rustc"; cat {cargo}/credentials.toml\n')
    (cargo / "bin/rustc").symlink_to("rustup")
    (cargo / "credentials.toml").write_text("password\n")
    write_script(tmp_path / ".rustup/toolchains/x/bin/rustc", "echo rustc 1.99\n")
    monkeypatch.setenv("PATH", f"{cargo / 'bin'}:{os.environ['PATH']}")
    inside = sandbox.find_sandbox().confine(View(root=tmp_path / "cache"))
    assert run(["rustc"], timeout=60, confinement=inside).stdout == "rustc 1.99\n"


@pytest.mark.usefixtures("boxed")
def test_a_root_with_a_strict_umask_builds_what_the_sandboxs_user_can_read(toy: Toy) -> None:
    (toy.tree / "kernel/sched.c").write_text("int sched, private;\n")
    for path in (toy.tree / "kernel/sched.c", toy.tree / "Makefile"):
        path.chmod(0o600)
    before = os.umask(0o077)
    try:
        toy.workspace.rename(toy.directory / "gone")
        assert "private" in (toy.build().directory / "vmlinux").read_text()
    finally:
        assert os.umask(before) == 0o077
