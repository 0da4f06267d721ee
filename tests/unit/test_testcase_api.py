"""The language that testcases are written in, over a scripted guest."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.errors import InfraError
from harness.model.kernel import Build
from harness.model.result import Verdict
from harness.run.api.guest import Guest
from harness.run.api.livepatch import Livepatch
from harness.run.api.modules import Module, Modules
from harness.run.api.text import BTI_C, MOV_X9_X30, NOP, Text
from harness.run.api.tracefs import Tracefs
from harness.run.api.watch import Watches
from harness.run.judging import first_of, outcome_of
from harness.target.base import Completed
from tests.faults.catalogue import Blame, fault


class ScriptedMachine:
    """Answers commands by the first key they contain; remembers all of them."""

    @staticmethod
    def scaled(seconds: float) -> float:
        return seconds

    def __init__(self, answers: dict[str, str | int] | None = None) -> None:
        self.answers = answers or {}
        self.commands: list[str] = []
        self.remembered: dict[object, object] = {}

    def run(self, command: str, *, timeout: float) -> Completed:
        self.commands.append(command)
        for key, answer in self.answers.items():
            if key in command:
                code, text = (answer, "") if isinstance(answer, int) else (0, answer)
                return Completed(command=command, returncode=code, output=text, seconds=0.0)
        return Completed(command=command, returncode=0, output="", seconds=0.0)


def guest(answers: dict[str, str | int] | None = None) -> tuple[Guest, ScriptedMachine]:
    machine = ScriptedMachine(answers)
    return Guest(machine), machine  # type: ignore[arg-type]


def text_of(memory: dict[str, tuple[int, list[int]]]) -> Text:
    """A Text over `memory`: what is at a symbol, its address and the instructions from it (or four before it) on."""
    asked: list[str] = []

    def write(_file: str, line: str) -> None:
        asked.append(line)

    def read(_file: str) -> str | None:
        symbol, offset, count = asked[-1].split()
        if symbol not in memory:
            return None
        address, words = memory[symbol]
        start = int(offset) + (4 if len(words) > 6 else 0)
        return " ".join(f"{word:x}" for word in (address, *words[start : start + int(count)]))

    return Text(SimpleNamespace(write=write, read=read, try_read=read))  # type: ignore[arg-type]


BL_PLUS_0x100 = 0x94000040


def test_a_call_site_and_its_literal() -> None:
    before = [1, 2, 0x11112222, 0xFFFF8000]
    site = text_of({"f": (0x1008, [*before, MOV_X9_X30, BL_PLUS_0x100, 7, 8, 9, 10])}).site("f")
    assert (site.address, site.ip, site.literal) == (0x1008, 0x100C, 0xFFFF800011112222)
    assert site.is_called
    assert site.destination == 0x110C


def test_a_bti_stands_before_the_site() -> None:
    site = text_of({"f": (0x1008, [0, 0, 5, 0, BTI_C, MOV_X9_X30, NOP, 8, 9, 10])}).site("f")
    assert (site.at, site.ip, site.words[:2]) == (0x100C, 0x1010, (MOV_X9_X30, NOP))
    assert not site.is_called


def test_a_branch_backwards() -> None:
    site = text_of({"f": (0x9000, [0, 0, 0, 0, MOV_X9_X30, 0x97FFFFFF, 0, 0, 0, 0])}).site("f")
    assert site.destination == 0x9000


def test_a_site_that_is_not_called_has_no_destination() -> None:
    site = text_of({"f": (0x1000, [0, 0, 0, 0, MOV_X9_X30, NOP, 0, 0, 0, 0])}).site("f")
    with pytest.raises(AssertionError, match="expected a bl at 0x1004, found 0xd503201f"):
        _ = site.destination


def test_where_a_call_leads() -> None:
    near = [0, 0, 0, 0, MOV_X9_X30, BL_PLUS_0x100, 0, 0, 0, 0]
    direct = text_of({"f": (0x1000, near), "ftrace_caller": (0x1104, [])})
    assert direct.entry_called("f") == ("ftrace_caller", False)
    plt = [0x90000030, 0x91042210, 0xD61F0200]  # adrp x16, +0x4000; add x16, x16, #0x108; br x16
    far = text_of({"f": (0x1000, near), "0x1104": (0x1104, plt), "ftrace_caller": (0x5108, [])})
    assert far.entry_called("f") == ("ftrace_caller", True)
    lost = text_of({"f": (0x1000, near), "0x1104": (0x1104, plt), "ftrace_caller": (0x5000, [])})
    with pytest.raises(AssertionError, match="the call leads to 0x1104"):
        lost.entry_called("f")


def test_something_else_than_a_trampoline_is_told() -> None:
    near = [0, 0, 0, 0, MOV_X9_X30, BL_PLUS_0x100, 0, 0, 0, 0]
    text = text_of({"f": (0x1000, near), "0x1104": (0x1104, [NOP, NOP, NOP]), "ftrace_caller": (8, [])})
    with pytest.raises(AssertionError, match="expected adrp x16 at 0x1104"):
        text.entry_called("f")


def test_why_a_module_refuses_a_line() -> None:
    machine = ScriptedMachine()
    machine.run = lambda command, *, timeout: Completed(  # type: ignore[method-assign]
        command=command, returncode=1, output="echo: write error: Device or resource busy\n", seconds=0.0
    )
    assert Module(Guest(machine), "direct").refusal("attach", "f") == "Device or resource busy"  # type: ignore[arg-type]


def test_a_module_that_takes_a_line_which_it_has_to_refuse() -> None:
    with pytest.raises(AssertionError, match="direct: attach took 'f'"):
        Module(guest()[0], "direct").refusal("attach", "f")


KERNEL = "ffff800080000000 T _text\nffff800080800000 T ftrace_caller\nffff800081000000 T _etext\n"
KALLSYMS: dict[str, str | int] = {
    r".*\[near\]$": f"{KERNEL}ffff80007f000000 t near_fn\t[near]\n",
    r".*\[far\]$": f"{KERNEL}ffff800077000000 t far_fn\t[far]\n",
    r".*\[across\]$": f"{KERNEL}ffff800078800000 t across_fn\t[across]\n",
}


@pytest.mark.parametrize(
    ("name", "place", "found"),
    [
        ("near", "far", "16 MB from the kernel, 24 MB from ftrace_caller"),
        ("far", "near", "144 MB from the kernel, 152 MB"),
        ("across", "far", "120 MB from the kernel, 128 MB"),
        ("across", "near", "120 MB from the kernel, 128 MB"),
    ],
)
def test_a_module_in_the_wrong_place_is_not_the_kernels_fault(
    tmp_path: Path, name: str, place: str, found: str
) -> None:
    there, machine = guest(KALLSYMS)
    modules = Modules(there, Build(directory=tmp_path, release="7.3.4", key="k"))
    with pytest.raises(InfraError, match=f"to be loaded {place}, found it {found}"), modules.placed(name, place):
        pass
    assert any(command.endswith(f"rmmod {name}") for command in machine.commands)


def test_a_kernel_that_scatters_its_modules_has_none_near(tmp_path: Path) -> None:
    there, _ = guest(KALLSYMS)
    build = Build(directory=tmp_path, release="7.3.4", key="k", config={"RANDOMIZE_MODULE_REGION_FULL": "y"})
    with pytest.raises(pytest.skip.Exception, match="within 2 GB"), Modules(there, build).placed("far", "near"):
        pass


def test_a_module_in_its_place(tmp_path: Path) -> None:
    there, machine = guest(KALLSYMS)
    modules = Modules(there, Build(directory=tmp_path, release="7.3.4", key="k"))
    with modules.placed("far", "far") as module:
        assert module.name == "far"
    assert machine.commands[0].endswith("insmod /payload/testcases/near_filler.ko")
    assert "near_filler" in machine.commands[0]
    unloaded = [command.rpartition("rmmod ")[2] for command in machine.commands if "rmmod" in command]
    assert unloaded == ["far", "near_filler"]


def test_where_a_module_lies_is_looked_up_once_for_each_address() -> None:
    answers = dict(KALLSYMS) | {"sections/.text": "0x1000"}
    there, machine = guest(answers)
    module = Module(there, "far")
    assert module.distances() == module.distances() == (144 << 20, 152 << 20)
    answers["sections/.text"] = "0x2000"
    machine.answers = answers
    module.distances()
    assert sum("kallsyms" in command for command in machine.commands) == 2


def test_watches_have_slots_of_their_own() -> None:
    report = "slot 0 hits 4 ip 10 parent_ip 20 x0 ff\nslot 1 hits a ip 11 parent_ip 21\n"
    there, machine = guest({"/report": report})
    watches = Watches(Module(there, "watch"))
    with watches.attach("f") as first, watches.attach("f", "args") as second:
        assert (first.seen().hits, first.seen().registers) == (4, {"x0": 0xFF})
        assert (second.seen().hits, second.seen().ip) == (10, 0x11)
    with watches.attach("g") as again:
        assert again.slot == 0
    assert sum("/detach" in command for command in machine.commands) == 3


def test_probes_are_removed_when_one_is_refused() -> None:
    there, machine = guest({"p:harness/bad": 1})
    with pytest.raises(AssertionError), Tracefs(there).probe("p:good f", "p:bad nosuch"):
        pass
    assert any("-:harness/good" in command for command in machine.commands)


def test_profile_sums_all_cpus() -> None:
    there, _ = guest({"trace_stat": "  Function  Hit\n  f    3   1 us\n  f    4   1 us\n  g   9\n"})
    with Tracefs(there).profile() as profile:
        assert profile.hits("f") == 7


# -- whose fault it is that something fails --------------------------------------------------------------------------


def _tracer(there: Guest) -> contextlib.AbstractContextManager[object]:
    return Tracefs(there).tracer("function")


def _instance(there: Guest) -> contextlib.AbstractContextManager[object]:
    return Tracefs(there).instance("harness")


def _value(there: Guest) -> contextlib.AbstractContextManager[object]:
    return there.value("/proc/sys/kernel/ftrace_enabled", "0")


@pytest.mark.parametrize(
    ("use", "refused"), [(_tracer, "/current_tracer"), (_instance, "mkdir"), (_value, "cat /proc/sys/kernel/ftrace_en")]
)
@pytest.mark.parametrize(
    ("there", "verdict"),
    [
        pytest.param(0, Verdict.FAIL, marks=fault(
            "the kernel refuses what a fixture writes or makes in a directory of its own", where="kernel",
            blame=Blame.KERNEL, survives="FAIL: the reason has the command")),
        pytest.param(1, Verdict.ERROR, marks=fault(
            "a fixture uses a file that this kernel does not have", where="kernel", blame=Blame.INFRA,
            survives="ERROR: the reason has the command")),
    ],
)  # fmt: skip
def test_what_the_kernel_refuses_a_fixture_is_its_fault_where_it_has_the_file(
    use: Callable[[Guest], contextlib.AbstractContextManager[object]], refused: str, there: int, verdict: Verdict
) -> None:
    on_it, _ = guest({"[ -e": there, refused: 1})
    with pytest.raises(AssertionError) as caught, use(on_it):
        pass
    outcome = outcome_of(first_of(caught.value), in_setup=True)
    assert outcome.verdict is verdict
    assert refused in outcome.reason
    assert outcome_of(caught.value).verdict is Verdict.FAIL  # in a test it is about both


def test_a_file_that_is_not_the_kernels_is_the_preparations_fault() -> None:
    on_it, _ = guest({"[ -e": 0, "/tmp/x": 1})
    with pytest.raises(AssertionError) as caught:
        on_it.write("/tmp/x", "1")
    assert outcome_of(caught.value, in_setup=True).verdict is Verdict.ERROR


@fault("a livepatch's transition does not end while a test is prepared", where="kernel", blame=Blame.KERNEL,
       survives="FAIL: the reason names the livepatch")  # fmt: skip
def test_a_transition_that_does_not_end_is_the_kernels_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.run.api.guest._LEAST_S", 0.05)
    on_it, _ = guest({"transition": 1})
    monkeypatch.setattr(on_it._machine, "scaled", lambda seconds: 0.0)
    with pytest.raises(AssertionError) as caught:
        Livepatch(on_it, "klp_first", version=(7, 3)).wait()
    outcome = outcome_of(caught.value, in_setup=True)
    assert (outcome.verdict, outcome.reason) == (Verdict.FAIL, "waited in vain for: klp_first: transition finished")
