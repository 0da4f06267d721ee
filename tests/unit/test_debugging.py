"""A machine that is stopped for gdb: who may reach it, what a person is told, and what happens inside gdb."""

from __future__ import annotations

import ast
import json
import re
import runpy
import shutil
import stat
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.campaign import gdbscript
from harness.campaign.debugging import Holding, debugged, gdb_command, module_files
from harness.errors import UserError
from harness.model.boot import QemuBoot
from harness.model.kernel import Build
from harness.target.methods import qemugdb
from harness.target.methods.table import Debugging, boot_method
from tests.boards import is_a, spec
from tests.faketarget import FakeTarget
from tests.faults.catalogue import Blame, fault

BOARD = spec("vm", boot=QemuBoot(extra_args=("-s",)))


def debugging() -> Debugging:
    return is_a(Debugging, boot_method(BOARD).debugging)


@pytest.mark.parametrize("is_long", [False, True], ids=["in the cache", "elsewhere, for the cache has a long path"])
def test_the_server_for_gdb_is_of_this_machine_alone(
    is_long: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = Path(tempfile.mkdtemp(prefix="h"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ("d" * 100) if is_long else short))
    with debugged(BOARD, debugging()) as (board, socket):
        assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
        args = is_a(QemuBoot, board.boot).extra_args
        assert args == ("-s", "-gdb", f"unix:{socket},server=on,wait=off", "-no-shutdown")
        assert socket.is_relative_to(short) is not is_long
    assert not socket.parent.exists()
    shutil.rmtree(short)
    assert is_a(QemuBoot, BOARD.boot).extra_args == ("-s",)


def test_a_comma_in_the_sockets_path() -> None:
    board = qemugdb.with_debugger(BOARD, Path("/a,b/socket"))
    assert "unix:/a,,b/socket,server=on,wait=off" in is_a(QemuBoot, board.boot).extra_args


def test_a_path_that_no_socket_can_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ("d" * 100)).mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ("d" * 100)))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("d" * 100)))
    with pytest.raises(UserError, match="at most 107 bytes for gdb's socket"), debugged(BOARD, debugging()):
        pass


def test_a_person_is_told_what_to_start_and_sees_the_console(tmp_path: Path) -> None:
    build = Build(directory=tmp_path, release="7.3.4", key="k")
    told: list[str] = []
    target = FakeTarget(lambda _command: [])
    target.kernel_says("[    1.000000] Oops")

    def goes_on() -> None:
        target.kernel_says("[    2.000000] more")
        target.cut()

    def say(text: str) -> None:
        told.append(text)
        if text.startswith("what the kernel says"):  # it goes on, and ends later
            threading.Thread(target=goes_on).start()

    holding = Holding(debugging(), build, tmp_path / "socket", say=say)
    assert not holding.has_held
    holding.keep(target, "Oops in f")
    assert holding.has_held
    assert told[:3] == ["[    1.000000] Oops", "", "stopped at: Oops in f"]
    assert told[3] == f"in another terminal: gdb-multiarch -q -x {tmp_path}/attach.gdb"
    assert told[-1] == "[    2.000000] more"
    target.close()


@pytest.mark.parametrize(("answer", "text"), [("ffff800080000000 T _text", 0xFFFF800080000000), ("0 T _text", 0)])
def test_where_the_kernel_is_gets_asked_before_it_stops(answer: str, text: int, tmp_path: Path) -> None:
    target = FakeTarget(lambda command: [answer] if "kallsyms" in command else [])
    target.cut()
    holding = Holding(debugging(), Build(directory=tmp_path, release="7.3.4", key="k"), tmp_path / "socket", say=print)
    holding.prepare(target)
    holding.keep(target, "Oops in f")
    literal = (tmp_path / "attach.gdb").read_text().splitlines()[0].partition(" = ")[2]
    assert json.loads(ast.literal_eval(literal))["text"] == text
    target.close()


def test_modules_have_the_names_that_the_kernel_has_for_them(tmp_path: Path) -> None:
    for name in ("modules/7.3/kernel/a-b.ko", "testmodules/c_d.ko", "testmodules/e.ko.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert module_files(tmp_path) == {
        "a_b": tmp_path / "modules/7.3/kernel/a-b.ko",
        "c_d": tmp_path / "testmodules/c_d.ko",
    }


@fault(
    "a directory is called like a command of gdb, or of its Python",
    where="hostile input",
    blame=Blame.NOBODY,
    survives="a script in which it is a name",
)
def test_no_name_becomes_a_command_of_gdb(tmp_path: Path) -> None:
    directory = tmp_path / "x'\"\n\nshell touch pwned \\"
    (directory / "testmodules").mkdir(parents=True)
    (directory / "testmodules/m.ko").touch()
    gdb_command(Build(directory=directory, release="7.3.4", key="k"), tmp_path / "socket")
    first, second = (tmp_path / "attach.gdb").read_text().splitlines()
    program, literal = first.split(" = ", 1)
    assert program == "python ATTACH"
    assert json.loads(ast.literal_eval(literal)) == {
        "vmlinux": f"{directory}/vmlinux",
        "socket": f"{tmp_path}/socket",
        "text": 0,
        "modules": {"m": f"{directory}/testmodules/m.ko"},
    }
    assert second == f"source {gdbscript.__file__}"


# -- inside gdb ---------------------------------------------------------------------------------------------------


class GdbError(Exception):
    pass


class FakeGdb:
    """gdb, as far as the script uses it. `values`: what expressions are, as numbers or texts, by a pattern; those of
    `cpus` are of one CPU. `memory`: what is there, by address."""

    error = GdbError

    class MemoryError(GdbError):  # gdb's name
        pass

    def __init__(
        self, values: Mapping[str, object], *, cpus: list[Mapping[str, object]], memory: Mapping[int, bytes]
    ) -> None:
        self._values = values
        self._memory = memory
        self._cpus = cpus
        self.cpu = 0
        self.commands: list[str] = []
        self.written = ""

    def parse_and_eval(self, expression: str) -> Any:
        plain = re.sub(r"^\(unsigned long\)\((.*)\)$|^\(char \*\)(.*)$", lambda m: m[1] or m[2], expression)
        for values in (self._cpus[self.cpu], self._values):
            for pattern, value in values.items():
                if re.fullmatch(pattern, plain):
                    return SimpleNamespace(string=lambda value=value: value) if isinstance(value, str) else value
        raise self.error(f"No symbol: {plain}")

    def execute(self, command: str, to_string: bool = False) -> str:
        self.commands.append(command)
        if command.startswith("info symbol "):
            name = {0xF000: "f", 0xD000: "die", 0xE000: "el1h_64_sync"}.get(int(command.split()[-1], 16))
            return f"{name} + 4 in section .text\n" if name else "No symbol matches.\n"
        return ""

    def write(self, text: str) -> None:
        self.written += text

    def selected_inferior(self) -> Any:
        def switch(number: int) -> Callable[[], None]:
            return lambda: setattr(self, "cpu", number)

        threads = [SimpleNamespace(num=number + 1, switch=switch(number)) for number in range(len(self._cpus))]
        return SimpleNamespace(threads=lambda: tuple(reversed(threads)), read_memory=self._read)

    def _read(self, address: int, length: int) -> bytes:
        if address not in self._memory or "user" in self._cpus[self.cpu]:
            raise self.MemoryError(f"Cannot access memory at address {address:#x}")
        return self._memory[address][:length]


KASLR = 0x1230000
LIST = {
    "&modules": 0x9000, "modules.next": 0xA008, r"&\(\(struct module \*\)0\)->list": 8,
    r"\(\(struct module \*\)0xa000\)->name": "klp_one", r"\(\(struct module \*\)0xa000\)->list.next": 0xB008,
    r"\(\(struct module \*\)0xb000\)->name": "\x1b[31mother", r"\(\(struct module \*\)0xb000\)->list.next": 0x9000,
}  # fmt: skip
SECTIONS = r"\(\(struct module \*\)0xa000\)->sect_attrs->"
NEW = {  # since 6.14
    SECTIONS + r"grp\.bin_attrs\[[01]\]": 1, SECTIONS + r"grp\.bin_attrs\[2\]": 0,
    SECTIONS + r"attrs\[0\]\.private": 0x7000, SECTIONS + r"attrs\[0\]\.attr\.name": ".text",
    SECTIONS + r"attrs\[1\]\.private": 0x8000, SECTIONS + r"attrs\[1\]\.attr\.name": ".data",
}  # fmt: skip
OLD = {
    SECTIONS + "nsections": 2,
    SECTIONS + r"attrs\[0\]\.address": 0x7000, SECTIONS + r"attrs\[0\]\.battr\.attr\.name": ".text",
    SECTIONS + r"attrs\[1\]\.address": 0x8000, SECTIONS + r"attrs\[1\]\.battr\.attr\.name": ".data",
}  # fmt: skip
SYMBOLS = {"&linux_banner": 0x5000, "&_text": 0x4000, r"&\(\(struct pt_regs \*\)0\)->stackframe": 0x100}
IN_USER_SPACE = {"user": 1, r"\$pc": 0x1000, r"\$x29": 0x0}
REPORTS = {r"\$pc": 0xD000, r"\$x29": 0x100}
# die, then the record of an exception, then f, then the end
RECORDS = {0x100: 0x500, 0x108: 0xE000, 0x500: 0, 0x508: 0, 0x510: 2, 0x800: 0, 0x808: 0, 0x810: 1}
FRAMES = {rf"\*\(unsigned long \*\){address}": value for address, value in RECORDS.items()}
FRAMES |= {r"\(\(struct pt_regs \*\)1024\)->regs\[29\]": 0x800, r"\(\(struct pt_regs \*\)1024\)->pc": 0xF000}
TOLD: dict[str, object] = {
    "vmlinux": "/b/vmlinux",
    "socket": "/s/socket",
    "text": KASLR + 0x4000,
    "modules": {"klp_one": "/b/my modules/klp-one.ko"},
}


@pytest.fixture(params=[NEW, OLD], ids=["since 6.14", "before"])
def gdb(request: pytest.FixtureRequest) -> FakeGdb:
    """A kernel that KASLR has moved, whose second CPU reports something while the first one runs a program."""
    values = {**SYMBOLS, **LIST, **request.param, **FRAMES}
    return FakeGdb(values, cpus=[IN_USER_SPACE, REPORTS], memory={KASLR + 0x5000: b"Linux version 7.3.4"})


def test_a_stopped_kernel_gets_its_symbols(gdb: FakeGdb) -> None:
    gdbscript.attach(gdb, TOLD)
    placing = [each for each in gdb.commands if not each.startswith(("set ", "info symbol "))]
    assert placing == [
        "file /b/vmlinux",
        "target remote /s/socket",
        "symbol-file",
        f"symbol-file -o {KASLR:#x} /b/vmlinux",
        "add-symbol-file '/b/my modules/klp-one.ko' 0x7000 -s .data 0x8000",
    ]
    assert gdb.cpu == 1
    assert gdb.written.splitlines() == [
        "module klp_one at 0x7000: /b/my modules/klp-one.ko",
        "module ?[31mother: no symbols; its file is not known",
        "#0   0x000000000000d000 die",
        "#1   0x000000000000e000 el1h_64_sync",
        "#2   0x000000000000f000 f",
    ]


def test_a_kernel_that_is_not_vmlinux_is_told(gdb: FakeGdb) -> None:
    gdb._memory = {}
    gdb._cpus = [IN_USER_SPACE]
    gdbscript.attach(gdb, TOLD)
    assert "the kernel was not found where vmlinux has it" in gdb.written
    assert "no CPU stands in a kernel report" in gdb.written


def test_a_list_of_modules_that_has_become_a_ring_ends(gdb: FakeGdb, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gdbscript, "_MOST_MODULES", 5)
    gdb._values = {**gdb._values, r"\(\(struct module \*\)0xb000\)->list.next": 0xA008}
    assert len([*gdbscript.Kernel(gdb).modules()]) == 5


def test_frames_that_lead_in_a_circle_end(gdb: FakeGdb, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gdbscript, "_MOST_FRAMES", 7)
    gdb._values = {**gdb._values, r"\*\(unsigned long \*\)1280": 0x100, r"\*\(unsigned long \*\)1288": 0xF000}
    gdb.cpu = 1
    assert len([*gdbscript.Kernel(gdb).frames()]) == 7


def test_the_script_needs_nothing_but_gdb_and_the_standard_library() -> None:
    runpy.run_path(gdbscript.__file__, run_name="not gdb")
    imports = re.findall(r"^\s*(?:import|from) (\w+)", Path(gdbscript.__file__).read_text(), re.MULTILINE)
    assert set(imports) == {"__future__", "collections", "gdb", "json", "shlex", "typing"}
