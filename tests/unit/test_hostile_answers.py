"""What a target answers is data: whatever it is, the harness says what was expected and whose fault that is."""

from __future__ import annotations

import dataclasses
import random
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import paramiko
import pytest

from harness.errors import InfraError, UserError
from harness.model.board import Ssh
from harness.model.result import Verdict
from harness.parse.trace import function_calls, graph_calls
from harness.run.api.guest import Guest, number
from harness.run.api.klp_modules import KlpStacks
from harness.run.api.tracefs import Tracefs
from harness.run.api.watch import Watch
from harness.run.judging import outcome_of
from harness.target.base import Completed, LineSink, TargetLost
from harness.target.line import frames
from harness.target.line.console import Console
from harness.target.line.serialmux import SerialMux
from harness.target.line.transport import SocketTransport
from harness.target.methods.grub import Grub
from harness.target.methods.ownsystem import df
from harness.target.methods.qemu import QemuTarget
from harness.target.methods.uboot import Uboot
from harness.target.shells import network
from harness.target.shells import serial as serial_shell
from harness.target.shells.serial import Running, Shell
from harness.target.shells.ssh import SshHost
from tests.faults.catalogue import Blame, fault

_FRAME = re.compile(rb"printf '\\n(?P<begin>@@\w+)\\n'; \(eval .*? printf '\\n(?P<end>@@\w+) %d\\n' \$\?\n", re.DOTALL)
_MANY_DIGITS = "1" * 5000  # more than Python turns into a number


def hostile(
    what: str, *, blame: Blame = Blame.INFRA, survives: str = "one line says what was expected"
) -> pytest.MarkDecorator:
    return fault(what, where="hostile target", blame=blame, survives=survives)


class Liar:
    """The far end of a Shell: answers each command with what `answer` makes of its markers, and then hangs up."""

    def __init__(self, answer: Callable[[bytes, bytes], bytes]) -> None:
        ours, self._theirs = socket.socketpair()
        self._answer = answer
        self.console = Console(SocketTransport(ours), log=None, name="b.console")
        self.shell = Shell(self.console)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        heard = b""
        while not (frame := _FRAME.fullmatch(heard)):
            data = self._theirs.recv(1 << 16)
            if not data:
                return
            heard += data
        self._theirs.sendall(self._answer(frame["begin"], frame["end"]))
        self._theirs.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.console.close()
        self._thread.join(timeout=10.0)
        self._theirs.close()


@pytest.fixture
def liar() -> Iterator[Callable[[Callable[[bytes, bytes], bytes]], Shell]]:
    made: list[Liar] = []

    def make(answer: Callable[[bytes, bytes], bytes]) -> Shell:
        made.append(Liar(answer))
        return made[-1].shell

    yield make
    for each in made:
        each.close()


MakeLiar = Callable[[Callable[[bytes, bytes], bytes]], Shell]


# -- the shell ---------------------------------------------------------------------------------------------------


@hostile("a command's exit code is no number", survives="TargetLost names the command and what came instead")
@pytest.mark.parametrize("code", [b"", b"x", b"-1", b"1 2", b"0x1", b"\xd9\xa1", b"1" * 5000, b"%d"])
def test_an_exit_code_that_is_none(liar: MakeLiar, code: bytes) -> None:
    shell = liar(lambda begin, end: b"\n" + begin + b"\nwords\n\n" + end + b" " + code + b"\n")
    with pytest.raises(TargetLost, match=r"^b\.console: expected the exit code of `true`, found '") as lost:
        shell.run("true", timeout=10.0)
    assert len(lost.value.message) < 200


def test_an_exit_code_before_a_carriage_return(liar: MakeLiar) -> None:
    shell = liar(lambda begin, end: b"\n" + begin + b"\nwords\n\n" + end + b" 7\r\n")
    assert shell.run("true", timeout=10.0).returncode == 7


@hostile("a command's output repeats the marker of its beginning", blame=Blame.NOBODY, survives="output and exit code")
def test_the_marker_of_the_beginning_does_not_tell_the_end(liar: MakeLiar) -> None:
    def answer(begin: bytes, end: bytes) -> bytes:
        return b"\n" + begin + b"\n" + begin + b" 0\n" + begin + b"\n\n" + end + b" 5\n"

    done = liar(answer).run("true", timeout=10.0)
    assert done.returncode == 5
    assert re.fullmatch(r"@@\w+ 0\n@@\w+", done.output)


@hostile("a file arrives as damaged base64", survives="TargetLost names the file")
@pytest.mark.parametrize("content", [b"aGVsbG8", b"aGVsbG8=!", b"aGVs*G8=", b"====", b"a", "aGVsbG8=ä".encode()])
def test_base64_that_is_none(liar: MakeLiar, content: bytes) -> None:
    shell = liar(lambda begin, end: b"\n" + begin + b"\n" + content + b"\n\n" + end + b" 0\n")
    with pytest.raises(TargetLost, match=r"^b\.console: /proc/version arrived damaged: expected base64"):
        shell.get("/proc/version")


def test_base64_in_lines_is_a_file(liar: MakeLiar) -> None:
    shell = liar(lambda begin, end: b"\n" + begin + b"\naGVs\r\nbG8=\n\n" + end + b" 0\n")
    assert shell.get("/proc/version") == b"hello"


@hostile(
    "a file on the target is larger than what is kept of a command's output",
    blame=Blame.USER,
    survives="the limit is named; nothing is taken for the whole file",
)
def test_a_file_that_is_too_large_is_not_cut(liar: MakeLiar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serial_shell, "_MOST_OUTPUT", 1 << 20)
    shell = liar(lambda begin, end: b"\n" + begin + b"\n" + (b"AAAA" * 18 + b"\n") * 20_000 + b"\n" + end + b" 0\n")
    with pytest.raises(UserError, match="larger than 0 MiB"):
        shell.get("/dev/zero")


@hostile("the shell answers with random lines around and in its frame", survives="TargetLost, or lines; no other end")
def test_random_answers_end_as_ours(local_shell: Shell) -> None:
    chance = random.Random(7)
    ends = set()
    for _ in range(3000):
        while local_shell.take(0.0):
            pass
        running = Running(local_shell, "true", begin="@@begin", end="@@end")
        pieces = [
            "@@begin",
            "\n@@end ",
            "@@end",
            " ",
            "\n",
            "0",
            "\x00",
            "\ufffd",
            "@@",
            chr(chance.randrange(1, 0x3000)),
        ]
        local_shell._arrived(0.0, "@@begin\n" + "".join(chance.choices(pieces, k=chance.randrange(12))) + "\n")
        try:
            while running.next_line(0.0) is not None:
                pass
        except TargetLost:
            ends.add("lost")
        else:
            ends.add("running" if running.returncode is None else "ended")
            assert running.returncode is None or 0 <= running.returncode <= 999
    assert ends == {"lost", "running", "ended"}


# -- the serial line ---------------------------------------------------------------------------------------------


@hostile(
    "frames of channels that a target does not have, with numbers of any size",
    blame=Blame.NOBODY,
    survives="the line and all its channels",
)
def test_frames_that_no_target_sends_cost_nothing() -> None:
    ours, theirs = socket.socketpair()
    line = Console(SocketTransport(ours), log=None, name="line")
    mux = SerialMux(line, place="b")
    kernel = Console(mux.channels[frames.KERNEL], log=None, name="kernel")
    chance = random.Random(11)
    texts = (b"", b"0", b"!at 999999999999999", b"!gone x", b"+", b"-", b"\x00\xff", b"!at " + b"9" * 40)
    try:
        for channel in ("?", "", "k", "c", "A", "C"):
            for text in texts:
                theirs.sendall(frames.encoded(channel, 0, text))
        for _ in range(200):
            whole = bytearray(frames.encoded(chance.choice("KCAkca?"), chance.choice((1, 10**15 - 1)), b"text"))
            whole[chance.randrange(len(whole) - 1)] = chance.randrange(1, 256)
            theirs.sendall(bytes(whole) + b"\n")
        theirs.sendall(b"\n[    1.000000] the last line\n")
        assert kernel.expect("the last line\n", timeout=30.0)
        assert not line.closed
    finally:
        mux.close()
        line.close()
        kernel.close()
        theirs.close()


# -- U-Boot, the network, the board's own system -------------------------------------------------------------------


class Told(SshHost):
    """A machine whose every command prints the same."""

    def __init__(self, output: str) -> None:
        self._output = output

    def run(self, command: str, *, timeout: float = 60.0, on_line: LineSink | None = None) -> Completed:
        return Completed(command=command, returncode=0, output=self._output, seconds=0.0)


DF = "Filesystem 1024-blocks Used Available Capacity Mounted on\n"


def test_what_df_tells() -> None:
    room = df(Told(f"{DF}/dev/a b 100 50 {1 << 20} 50% /mnt/with a blank\n"), "/boot", "complaint")
    assert (room.free_bytes, room.mounted_on) == (1 << 30, "/mnt/with a blank")


@hostile("df on the board's own system prints something else")
@pytest.mark.parametrize("output", ["", "\n", DF, f"{DF}x", f"{DF}/dev/a 1 2 {_MANY_DIGITS} 1% /", f"{DF}a b c d e f"])
def test_df_that_is_none(output: str) -> None:
    with pytest.raises(InfraError, match=r"^b: expected df, found '"):
        df(Told(output), "/boot", "b: expected df")


@hostile("U-Boot's variable for an address holds something else")
@pytest.mark.parametrize("value", ["here", "0x", "1f" * 20, "-1", "0x4000\x1b[2J"])
def test_an_address_of_u_boot_that_is_none(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Uboot, "_variable", lambda _self, _name: value)
    uboot = object.__new__(Uboot)
    uboot._place = "b"
    with pytest.raises(InfraError, match=r"^b: U-Boot: kernel_addr_r: expected an address, found '.*boot\.kernel_at"):
        uboot.value("kernel_addr_r", key="boot.kernel_at")


class Booted(Shell):
    """The serial shell of a kernel that says where its network is."""

    def __init__(self, told: str) -> None:
        self._told = told

    def run(self, command: str, *, timeout: float = 60.0, on_line: LineSink | None = None) -> Completed:
        return Completed(command=command, returncode=0, output=self._told, seconds=0.0)


@hostile("a booted kernel tells an address that is none")
@pytest.mark.parametrize("address", ["there", "10.0.0", "x" * 5000, "..", "10.0.0.1/24", "\x1b[2J"])
def test_an_address_of_the_network_that_is_none(address: str) -> None:
    told = f"address {address}\nhostkey ssh-ed25519 AAAA\n"
    with pytest.raises(network.NoNetwork, match=r"^b: no network: expected the address") as caught:
        network.reach(Ssh(), Booted(told), place="b")
    assert len(caught.value.message) < 200


@hostile("an SSH server sends messages that SFTP does not have", survives="TargetLost names the file")
@pytest.mark.parametrize(
    "error",
    [
        paramiko.SFTPError("Garbage packet received"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        struct.error("unpack requires a buffer of 4 bytes"),
        IndexError("index out of range"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_ssh_server_that_is_none(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    host = SshHost(Ssh(host="127.0.0.1"), place="b.ssh")
    monkeypatch.setattr(SshHost, "connected", property(lambda _self: True))

    def session(_self: SshHost) -> None:
        raise error

    monkeypatch.setattr(SshHost, "_sftp_session", session)
    with pytest.raises(TargetLost, match=r"^b\.ssh: the connection was lost while /etc/hosts was read: "):
        host.get("/etc/hosts")


@hostile("the host name of a machine can't be one", survives="InfraError names the place")
def test_a_host_name_that_is_none() -> None:
    host = SshHost(dataclasses.replace(Ssh(), host="a" * 70 + ".invalid"), place="b.ssh")
    with pytest.raises(InfraError, match=r"^b\.ssh: expected an SSH server at "):
        host.connect()


@hostile("stat on the board's own system prints no mode", survives="custom.cfg as it was")
@pytest.mark.parametrize("mode", ["x", "-1", "888", "1" * 5000, "644\n644"])
def test_a_mode_that_is_none(mode: str) -> None:
    class Board(Told):
        def run(self, command: str, *, timeout: float = 60.0, on_line: LineSink | None = None) -> Completed:
            self._output = mode if "stat" in command else "/boot/grub/custom.cfg"
            return super().run(command, timeout=timeout, on_line=on_line)

    grub = object.__new__(Grub)
    grub.__dict__.update(board=SimpleNamespace(name="b"), system=Board(""), directory="/boot/grub")
    with pytest.raises(InfraError, match=r"^b: grub: /boot/grub/custom\.cfg: .*expected its mode, found '"):
        grub._change_custom(str)


@hostile("QEMU's monitor answers with something else", survives="an answer that says so")
@pytest.mark.parametrize(
    "answer", ['{"id": "harness-1"}', '{"return": 5, "id": "harness-1"}', '{oops "id": "harness-1"}']
)
def test_an_answer_of_qemu_that_is_none(answer: str) -> None:
    found = re.match(r"(.*)", answer)
    qmp = SimpleNamespace(send=lambda _data: None, expect=lambda _pattern, timeout: found, closed=False)
    target = object.__new__(QemuTarget)
    target.__dict__.update(_qmp=qmp, _asked=0, _asking=threading.Lock())
    told = target.monitor("query-status")
    assert told["error"]["desc"].startswith("an answer that is none: ")


# -- what testcases read ---------------------------------------------------------------------------------------------


def test_numbers() -> None:
    assert [number(text, "x") for text in ("0", " 12\n", "-3")] == [0, 12, -3]
    assert [number(text, "x", base=16) for text in ("ff", "0xFF", "ffff800080000000")] == [255, 255, 0xFFFF800080000000]


@hostile(
    "the kernel prints something else where a testcase reads a number",
    blame=Blame.KERNEL,
    survives="FAIL: the reason says what was expected and found",
)
@pytest.mark.parametrize("text", ["", "x", "1 2", "0x", "--1", "inf", "NaN", "1e9", "ff", _MANY_DIGITS, "\x1b[2J"])
def test_a_number_that_is_none_fails_the_test(text: str) -> None:
    with pytest.raises(AssertionError) as caught:
        number(text, "/proc/1/patch_state")
    outcome = outcome_of(caught.value)
    assert outcome.verdict is Verdict.FAIL
    assert outcome.reason.startswith("/proc/1/patch_state: expected a number, found ")
    assert len(outcome.reason) < 200


def _guest(output: str) -> Guest:
    def run(command: str, *, timeout: float) -> Completed:
        return Completed(command=command, returncode=0, output=output, seconds=0.0)

    return Guest(SimpleNamespace(run=run, scaled=lambda seconds: seconds, remembered={}))  # type: ignore[arg-type]


@hostile(
    "files of /proc, tracefs and the test modules hold something else",
    blame=Blame.KERNEL,
    survives="FAIL: no other exception",
)
@pytest.mark.parametrize(
    "output", ["", "x", "slot", "slot 0 hits", "slot x hits 1", "a b c d", _MANY_DIGITS, "\x00\n\n"]
)
def test_what_testcases_read_fails_them(output: str) -> None:
    guest = _guest(output)
    for read in (lambda: guest.cpus, Watch(KlpStacks(guest), 0).seen):
        with pytest.raises(AssertionError):
            read()
    if output.strip("\n"):
        with pytest.raises(AssertionError, match="no return address in a function"):
            KlpStacks(guest).plain(1)
    assert KlpStacks(guest).all_asleep() == []
    with Tracefs(guest).profile() as profile:
        assert profile.hits("f") == 0


@hostile("a trace has process ids of thousands of digits", blame=Blame.NOBODY, survives="the other lines of the trace")
def test_a_trace_with_numbers_that_are_none() -> None:
    good = "  bash-71      [001] d..2.    12.345678: vfs_read <-ksys_read"
    calls = list(function_calls(f"{good.replace('71', _MANY_DIGITS)}\n{good}\n{good.replace('001', _MANY_DIGITS)}\n"))
    assert [call.pid for call in calls] == [71]
    tree = " 1)    cat-{}     |   0.512 us    |  fput();"
    assert len(graph_calls(f"{tree.format(_MANY_DIGITS)}\n{tree.format(123)}\n")) >= 1
