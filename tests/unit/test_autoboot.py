"""Stopping U-Boot: when keys are sent, how often, and what is said where it fails."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from harness.errors import InfraError, UserError
from harness.model.boot import UbootBoot
from harness.parse import document
from harness.parse.boot_shapes import UbootBoot as Shape
from harness.target.line.console import Console
from harness.target.line.transport import SocketTransport
from harness.target.methods import autoboot
from harness.target.methods.autoboot import NotStopped
from harness.target.methods.uboot import Uboot
from tests.faults.catalogue import Blame, fault
from tests.unit.scripted_uboot import AUTOBOOT, BANNER, ScriptedUboot

Talk = Callable[..., tuple[Uboot, ScriptedUboot]]


def spec(**more: Any) -> UbootBoot:
    return UbootBoot(**{"tftp_root": "/t", "uboot_seconds": 3.0, **more})


@pytest.fixture
def talk() -> Iterator[Talk]:
    """Makes a scripted U-Boot and our side of it; ends it after the test."""
    made: list[ScriptedUboot] = []

    def start(answers: dict[str, str] | None = None, *, boot: dict[str, Any] | None = None, **more: Any) -> Any:
        far = ScriptedUboot(answers, **more)
        made.append(far)
        return Uboot(far.console, spec(**(boot or {})), place="b"), far

    yield start
    for far in made:
        far.close()


class Line:
    """A far end whose output the test decides; `typed`: what arrived there, with the time of each arrival."""

    def __init__(self) -> None:
        ours, self._theirs = socket.socketpair()
        self.console = Console(SocketTransport(ours), log=None, name="board")
        self.typed: list[tuple[float, bytes]] = []
        self.arrived = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def say(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._theirs.sendall(text.encode())

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._theirs.recv(4096):
                self.typed.append((time.monotonic(), data))
                self.arrived.set()

    def close(self) -> None:
        self.console.close()
        self._thread.join(timeout=5.0)
        self._theirs.close()


@pytest.fixture
def line() -> Iterator[Line]:
    far = Line()
    yield far
    far.close()


@pytest.mark.parametrize(
    ("banner", "boot"),
    [
        pytest.param("01 (Jun 22)\r\nNet:   eth0\r\n" + AUTOBOOT, {}, id="a line that came up after the banner",
                     marks=fault("the serial line comes up after U-Boot's banner", where="console", blame=Blame.NOBODY,
                                 survives="the boot")),
        pytest.param("\r\nACME-Boot v3 (U-Boot based)\r\n" + AUTOBOOT, {}, id="a vendor's banner"),
        pytest.param(BANNER, {"stop_text": "U-Boot 2023.01"}, id="the banner is the text"),
        pytest.param(BANNER, {"stop_text": "DRAM:"}, id="the last line that it prints is the text"),
        pytest.param(AUTOBOOT, {}, id="nothing but the text"),
    ],
)  # fmt: skip
def test_keys_are_sent_when_the_text_comes_with_or_without_a_banner(
    talk: Talk, banner: str, boot: dict[str, Any]
) -> None:
    uboot, far = talk(banner=banner, boot=boot)
    uboot.stop()
    assert far.commands


def test_no_key_is_sent_before_the_text_comes(line: Line) -> None:
    """A first stage may take keys for a wish to load a file over the line."""
    line.say("\r\nU-Boot SPL 2023.01 (Jun 22 2026)\r\n\r\nU-Boot 2023.01 (Jun 22 2026)\r\nNet: ")
    with pytest.raises(NotStopped, match="neither said 'stop autoboot' nor showed a prompt"):
        Uboot(line.console, spec(uboot_seconds=0.3), place="b").stop()
    assert not line.typed


def test_a_text_that_comes_again_and_again_makes_the_keys_no_faster(line: Line) -> None:
    line.say(BANNER + "Hit any key to stop autoboot\r\n" * 500)
    with pytest.raises(NotStopped, match=r"sent ' ', \d+ times after it said 'stop autoboot'"):
        Uboot(line.console, spec(uboot_seconds=0.5, stop_every_ms=100), place="b").stop()
    assert 1 <= sum(len(data) for _, data in line.typed) <= 6


def test_keys_from_power_on_at_the_stated_rate_and_no_longer_than_stated(line: Line) -> None:
    started = time.monotonic()
    with pytest.raises(InfraError, match="nothing came at all"):
        Uboot(line.console, spec(stop_from="power-on", stop_every_ms=100, uboot_seconds=1.0), place="b").stop()
    assert time.monotonic() - started < 20.0
    assert 2 <= sum(len(data) for _, data in line.typed) <= 11


@pytest.mark.parametrize("version", ["U-Boot 2023.01 (Jun 22 2026)", "ACME-Boot v3", "Unknown command 'version'"])
def test_a_silent_uboot_is_asked_what_it_is(talk: Talk, version: str) -> None:
    uboot, far = talk({"version": f"{version}\r\n"}, banner="", boot={"stop_from": "power-on"})
    uboot.stop()
    assert far.commands[-1] == "version"
    assert uboot.command("version") == version


@fault("keys from power-on reach a shell of the system on the disk instead of U-Boot", where="boot", blame=Blame.INFRA,
       survives="the system: nothing but `echo` and `version` is run there")  # fmt: skip
def test_a_shell_of_linux_is_not_taken_for_uboot(talk: Talk) -> None:
    answers = {"version": "-sh: version: not found\r\n"}
    uboot, far = talk(answers, banner="", prompt="root@pi:~# ", boot={"stop_from": "power-on"})
    with pytest.raises(InfraError, match=r"a system's shell answers at 'root@pi:~#'; see"):
        uboot.stop()
    assert {command.split()[0] for command in far.commands} == {"echo", "version"}


@fault("keys from power-on meet a system that asks for a login", where="boot", blame=Blame.INFRA,
       survives="the login: no more keys are sent")  # fmt: skip
def test_a_login_where_keys_were_sent_from_power_on(line: Line) -> None:
    line.say("Debian GNU/Linux 12 pi ttyS0\r\n\r\npi login: ")
    started = time.monotonic()
    with pytest.raises(InfraError, match="waits for a login; see whether the board's firmware starts U-Boot"):
        Uboot(line.console, spec(stop_from="power-on", uboot_seconds=90.0), place="b").stop()
    assert time.monotonic() - started < 60.0


def test_keys_from_power_on_wait_until_the_own_system_is_down(line: Line) -> None:
    uboot = Uboot(line.console, spec(stop_from="power-on", uboot_seconds=0.5), place="b")
    line.say("[  OK  ] Stopped target\r\nserver login: ")
    with pytest.raises(InfraError):
        uboot.stop(after="Restarting system")
    typed = list(line.typed)
    line.say("[   99.000000] reboot: Restarting system\r\n")
    with pytest.raises(InfraError):
        uboot.stop(after="Restarting system")
    assert len(line.typed) > len(typed)


def test_what_looks_like_a_prompt_while_output_goes_on_is_none(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row of # is no prompt; nothing is typed into it."""
    monkeypatch.setattr(autoboot, "_QUIET_S", 5.0)  # on a busy host 0.2 s may pass between two rows
    uboot = Uboot(line.console, spec(uboot_seconds=0.6), place="b")
    line.say(BANNER)

    def progress() -> None:
        for _ in range(8):
            line.say("\r\n########")
            line.arrived.wait(0.1)
        line.say("\r\ndone\r\n")

    thread = threading.Thread(target=progress)
    thread.start()
    with pytest.raises(NotStopped, match="nor showed a prompt"):
        uboot.stop()
    thread.join()
    assert not line.typed


@pytest.mark.parametrize(
    ("asks", "hint"),
    [
        ("Press SPACE to abort autoboot in 2 seconds", "Press SPACE to abort autoboot in 2 seconds"),
        ("Hit ESC to enter the menu:  3", "Hit ESC to enter the menu:  3"),
        ("Booting in 3 ...", "Booting in 3 ..."),
    ],
)
def test_the_message_points_to_what_may_be_the_question(line: Line, asks: str, hint: str) -> None:
    line.say(f"{BANNER}{asks}")
    with pytest.raises(NotStopped) as caught:
        Uboot(line.console, spec(uboot_seconds=0.3), place="b").stop()
    assert f"it may be waiting where it says {hint!r}" in caught.value.message
    assert "stop_from: power-on" in caught.value.message


@fault("U-Boot's echo comes behind something that another program puts on the line", where="console", blame=Blame.INFRA,
       survives="the last lines; the cable is not blamed")  # fmt: skip
def test_an_answer_in_another_form_is_not_blamed_on_the_cable(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autoboot, "_ECHO_LIMIT_S", 0.3)
    uboot, far = talk(banner=BANNER + "=> ")
    say = far._say
    far._say = lambda text: say(text.replace("\r\n", "\r\n%% "))  # type: ignore[method-assign]
    with pytest.raises(NotStopped, match="answers at its prompt, but not in a form") as caught:
        uboot.stop()
    assert "cable" not in caught.value.message
    assert any("%% " in shown for shown in caught.value.details)


def test_a_question_that_arrives_in_pieces_which_end_like_a_prompt(line: Line) -> None:
    uboot = Uboot(line.console, spec(stop_text="<Esc> to stop", uboot_seconds=1.0), place="b")
    line.say("Press <Esc>")
    timer = threading.Timer(0.3, line.say, (" to stop",))
    timer.start()
    with pytest.raises(NotStopped):
        uboot.stop()
    timer.join()
    assert line.typed


def test_a_word_that_stops_it_is_not_shown(line: Line) -> None:
    line.say(BANNER + "Enter the word to stop autoboot:  3 \b\b\b 2 ")
    with pytest.raises(
        NotStopped, match=r"sent boot\.stop_keys, .* says 'Enter the word to stop autoboot:  3'"
    ) as caught:
        Uboot(line.console, spec(stop_keys="otter\r", uboot_seconds=0.3), place="b").stop()
    assert "otter" not in caught.value.message


def test_another_uboot_that_the_first_one_starts_is_stopped(line: Line) -> None:
    line.say(BANNER + "\r\nStarting kernel ...\r\n")
    uboot = Uboot(line.console, spec(uboot_seconds=1.0), place="b")
    timer = threading.Timer(0.3, line.say, (f"{BANNER}{AUTOBOOT}",))
    timer.start()
    with pytest.raises(NotStopped, match="after it said 'stop autoboot'"):
        uboot.stop()
    timer.join()
    assert line.typed


@fault("a kernel starts before the line shows anything of U-Boot", where="console", blame=Blame.INFRA,
       survives="the last lines; the board is switched off and on once more")  # fmt: skip
def test_a_kernel_before_which_nothing_of_uboot_was_seen(line: Line) -> None:
    line.say("rubbish\r\n[    0.000000] Booting Linux on physical CPU 0x0\r\n")
    with pytest.raises(NotStopped, match="a kernel started, and nothing of U-Boot was seen before") as caught:
        Uboot(line.console, spec(uboot_seconds=20.0), place="b").stop()
    assert "rubbish" in caught.value.details


@fault("a target prints lines without end that look like prompts, logins and questions", where="hostile target",
       blame=Blame.INFRA, survives="the time limit")  # fmt: skip
@pytest.mark.parametrize(
    "text", [">" + " " * 60_000, "x" * 200_000, "hit " * 30_000, "\r\n#" * 30_000, "\x1b[" * 30_000]
)
@pytest.mark.parametrize("start", ["text", "power-on"])
def test_hostile_output_costs_no_more_than_the_time_limit(line: Line, text: str, start: str) -> None:
    uboot = Uboot(line.console, spec(uboot_seconds=1.0, stop_from=start), place="b")
    threading.Thread(target=line.say, args=(text,), daemon=True).start()
    started = time.monotonic()
    with pytest.raises(InfraError):
        uboot.stop()
    assert time.monotonic() - started < 30.0


@pytest.mark.parametrize("boots", ["[    0.000000] Booting Linux on physical CPU 0x0", "Linux version 6.1.0 (x)"])
def test_a_kernel_that_starts_ends_the_waiting(line: Line, boots: str) -> None:
    line.say(f"{BANNER}{AUTOBOOT}\r\n{boots}\r\n")
    started = time.monotonic()
    with pytest.raises(NotStopped):
        Uboot(line.console, spec(uboot_seconds=90.0), place="b").stop()
    assert time.monotonic() - started < 60.0


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"stop_text": ""}, r"boot\.stop_text: expected a part of what U-Boot says .* stop_from: power-on\), found ''"),
        ({"stop_text": "  "}, r"boot\.stop_text"),
        ({"stop_keys": ""}, r"boot\.stop_keys: expected 1 to 64 keys"),
        ({"stop_keys": r"\x03"}, r"boot\.stop_keys: .* in double quotes"),
        ({"stop_keys": r"secret\r"}, r"boot\.stop_keys: .* in double quotes"),
        ({"stop_keys": "x" * 65}, r"boot\.stop_keys: expected 1 to 64 keys"),
        ({"stop_every_ms": 1}, r"boot\.stop_every_ms: expected greater than or equal to 50, found 1"),
        ({"stop_from": "start"}, r"boot\.stop_from: expected 'text' or 'power-on', found 'start'"),
    ],
)
def test_settings_that_would_flood_or_do_nothing_are_refused(keys: dict[str, Any], told: str) -> None:
    class Entry(document.Strict):
        boot: Shape

    data = {"boot": {"method": "uboot", "tftp_root": "/t", **keys}}
    with pytest.raises(UserError, match=told):
        document.shaped(data, Entry, place="boards.yaml")
