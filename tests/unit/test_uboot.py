"""The conversation with U-Boot: stopping it, its prompt, loading, and what it complains about."""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from harness.errors import InfraError
from harness.model.boot import UbootBoot
from harness.target.line.console import Console
from harness.target.methods import uboot as uboot_module
from harness.target.methods.autoboot import NotStopped
from harness.target.methods.uboot import Load, Uboot
from tests.faults.catalogue import Blame, fault
from tests.unit.scripted_uboot import AUTOBOOT, BANNER, LOADED, ScriptedUboot

FILE = Load(name="harness/Image", size=1234, address="kernel_addr_r", key="boot.kernel_at")
GOOD = {
    "printenv kernel_addr_r": "kernel_addr_r=0x40400000\r\n",
    ".*dhcp": "BOOTP broadcast 1\r\nDHCP client bound to address 10.0.2.15 (1 ms)\r\n",
    "tftpboot .*": LOADED,
}


Talk = Callable[..., tuple[Uboot, ScriptedUboot]]


@pytest.fixture
def talk() -> Iterator[Talk]:
    """Makes a scripted U-Boot and our side of it; ends it after the test."""
    made: list[ScriptedUboot] = []

    def start(
        answers: dict[str, str] | None = None, *, spec: UbootBoot | None = None, **more: Any
    ) -> tuple[Uboot, ScriptedUboot]:
        far = ScriptedUboot({**GOOD, **(answers or {})}, **more)
        made.append(far)
        return Uboot(far.console, spec or UbootBoot(tftp_root="/t", uboot_seconds=3.0), place="b"), far

    yield start
    for far in made:
        far.close()


def stopped(talk: Talk, *arguments: Any, **more: Any) -> tuple[Uboot, ScriptedUboot]:
    uboot, far = talk(*arguments, **more)
    uboot.stop()
    return uboot, far


@pytest.mark.parametrize("prompt", ["=> ", "U-Boot> ", "u-boot# ", "Marvell>> ", "rpi4 $ "])
def test_the_prompt_is_told_from_the_output(talk: Talk, prompt: str) -> None:
    uboot, _ = stopped(talk, {"version": "U-Boot 2023.01\r\ngcc 12\r\n"}, prompt=prompt)
    assert uboot.command("version") == "U-Boot 2023.01\ngcc 12"
    assert uboot.command("true") == ""


def test_a_board_whose_autoboot_is_off_waits_at_its_prompt(talk: Talk) -> None:
    _, far = stopped(talk, banner=BANNER + "=> ")
    assert far.commands


def test_other_words_and_keys_stop_autoboot(talk: Talk) -> None:
    spec = UbootBoot(tftp_root="/t", stop_text="Press s to", stop_keys="s")
    _, far = stopped(talk, spec=spec, banner=BANNER + "Press s to abort: 3")
    assert far.commands


def damaging(line: Console, damages: list[tuple[bytes, bytes]], monkeypatch: pytest.MonkeyPatch) -> Console:
    """Our side of a line that damages what is typed: each of `damages` once."""
    left, send_whole = list(damages), line.send

    def send(data: bytes) -> None:
        for damage in left:
            if damage[0] in data:
                left.remove(damage)
                data = data.replace(*damage)
                break
        send_whole(data)

    monkeypatch.setattr(line, "send", send)
    return line


@fault(
    "a command arrives at U-Boot with changed, lost and added bytes",
    where="console",
    blame=Blame.NOBODY,
    survives="the command, which runs once and whole",
)
def test_a_command_that_arrives_damaged_is_not_run_but_typed_again(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uboot_module, "_ECHO_LIMIT_S", 0.5)
    _, far = talk()
    damages = [(b"setenv", b"s\x01tenv"), (b"bootargs", b"botargs"), (b"bootargs", b"xbootargs")]
    uboot = Uboot(damaging(far.console, damages, monkeypatch), UbootBoot(tftp_root="/t", uboot_seconds=3.0), place="b")
    uboot.stop()
    assert uboot.command("setenv bootargs 'x'") == ""
    assert far.commands[1:] == ["setenv bootargs 'x'"]


@fault(
    "no command arrives at U-Boot whole",
    where="console",
    blame=Blame.INFRA,
    survives="the board: no damaged command was run",
)
def test_a_line_on_which_no_command_arrives_whole(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uboot_module, "_ECHO_LIMIT_S", 0.5)
    _, far = talk()
    line = damaging(far.console, [(b"usb", b"usx")] * 9, monkeypatch)
    uboot = Uboot(line, UbootBoot(tftp_root="/t", uboot_seconds=3.0), place="b")
    uboot.stop()
    with pytest.raises(InfraError, match=r"b: U-Boot did not echo `usb start` as it was typed, 5 times in a row"):
        uboot.command("usb start")
    assert len(far.commands) == 1


def test_an_answer_that_changes_is_asked_for_until_it_comes_twice(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    uboot, _ = stopped(talk)
    answers = iter(["0x40400000", "0x40500000", "0x40400000", "0x40400000"])
    monkeypatch.setattr(uboot, "command", lambda _text, **_limit: f"kernel_addr_r={next(answers)}\n")
    assert uboot.value("kernel_addr_r", key="boot.kernel_at") == "0x40400000"
    assert not list(answers)


@fault("a TFTP transfer stalls", where="network", blame=Blame.INFRA, survives="the time limit; the file's name")
def test_a_transfer_that_stalls(talk: Talk) -> None:
    uboot, far = stopped(talk, spec=UbootBoot(tftp_root="/t", uboot_seconds=3.0, load_seconds=0.3))
    far.hangs_at = "tftpboot"
    with pytest.raises(InfraError, match=r"harness/Image: the transfer did not end within 0 s; see whether the TFTP"):
        uboot.load(FILE)


HTTP = UbootBoot(load="http", http_root="/w", http_url="http://10.1.0.2/boot", address="10.1.2.3/22", uboot_seconds=3.0)
ANSWERED = "HTTP/1.0 200 OK| | | | | \r\nPackets received 9, Transfer Successful\r\n"
OVER_HTTP = {
    "help wget": "wget - boot image\r\n\r\nUsage:\r\nwget [loadAddress] [[hostIPaddr:]path and image name]\r\n",
    "wget .*": f"{ANSWERED}Bytes transferred = 1234 (4d2 hex)\r\n\r\n",
    "crc32 .*": "crc32 for 40400000 ... 404004d1 ==> 0badcafe\r\n",
}
CHECKED = replace(FILE, crc32=0x0BADCAFE)


@pytest.mark.parametrize(
    ("url", "usage", "port", "file"),
    [
        ("http://10.1.0.2/boot", "", "80", "10.1.0.2:/boot/harness/Image"),
        ("http://10.1.0.2", "[loadAddress] [[hostIPaddr:]path and image name]", "80", "10.1.0.2:/harness/Image"),
        ("http://10.1.0.2:81", "[loadAddress] [[hostIPaddr:]path and image name]", "81", "10.1.0.2:/harness/Image"),
        ("http://10.1.0.2:81/b", "[loadAddress] url\r\nwget [host:]path", "81", "http://10.1.0.2:81/b/harness/Image"),
    ],
)
def test_loading_over_http_as_this_uboot_wants_it(talk: Talk, url: str, usage: str, port: str, file: str) -> None:
    told = {**OVER_HTTP, "help wget": f"wget - boot image\r\n\r\nUsage:\r\nwget {usage}\r\n"}
    uboot, far = stopped(talk, told, spec=replace(HTTP, http_url=url))
    uboot.network()
    assert uboot.load(CHECKED) == "0x40400000"
    assert f"setenv httpdstp {port}" in far.commands
    assert far.commands[-2:] == [f"wget 0x40400000 {file}; echo", "crc32 0x40400000 4d2"]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        # what a U-Boot without lwIP takes for a file
        (f"HTTP/1.0 404 File not found\r\n{ANSWERED[15:]}Bytes transferred = 1234 (4d2 hex)\r\n",
         "404 File not found: the web server has no such file; see boot.http_root and boot.http_url"),
        ("\r\nHTTP server error 404\r\n", "HTTP server error 404: the web server has no such file"),
        ("HTTP/1.1 403 Forbidden\r\n", "403 Forbidden: the web server denies access to it"),
        ("HTTP/1.1 301 Moved Permanently\r\n", "the web server redirects"),
        ("HTTP/1.1 503 Busy\r\n", "503 Busy: the web server refuses"),
        ("###\r\nHTTP client error 4\r\n", "the web server at 10.1.0.2, port 80, does not answer"),
        ("\r\nARP Retry count exceeded; starting again\r\n", "the web server at 10.1.0.2, port 80, does not answer"),
        ("\r\n", "expected 1234 bytes, none came: the web server at 10.1.0.2, port 80, does not answer"),
        ("HTTP/1.0 200 OK| \r\n", "expected 1234 bytes, not all came; see whether the web server still runs"),
        (f"{ANSWERED}Bytes transferred = 1000 (3e8 hex)\r\n", "1000 came; see whether the web server still runs"),
        ("\r\nwget error: trying to overwrite reserved memory...\r\n", "not free memory"),
    ],
)  # fmt: skip
def test_what_goes_wrong_while_loading_over_http(talk: Talk, said: str, told: str) -> None:
    uboot, _ = stopped(talk, {**OVER_HTTP, "wget .*": said}, spec=HTTP)
    uboot.network()
    with pytest.raises(InfraError, match=told) as caught:
        uboot.load(CHECKED)
    assert "| |" not in "".join(caught.value.details)


def test_a_uboot_without_wget(talk: Talk) -> None:
    unknown = "Unknown command 'wget' - try 'help' without arguments for list of all known commands\r\n\r\n"
    uboot, _ = stopped(talk, {**OVER_HTTP, "help wget": unknown}, spec=HTTP)
    with pytest.raises(InfraError, match=r"can't load over HTTP; set boot\.load: tftp, or build it with CMD_WGET"):
        uboot.network()


def test_what_will_not_come_back_is_not_waited_for(talk: Talk) -> None:
    uboot, far = stopped(talk, OVER_HTTP, spec=HTTP)
    uboot.network()
    far.hangs_at, far.hanging = "wget", "\r\nwget: Transfer Fail - Image not found, no data returned\r\n"
    with pytest.raises(InfraError, match="closed the connection without an answer"):
        uboot.load(CHECKED)


@pytest.mark.parametrize(
    ("sums", "told"),
    [
        (["0badcafe"], ""),
        (["0badcafx", "1badcafe", "0badcafe"], ""),  # the serial line's fault
        (["1badcafe", "1badcafe"], "expected the checksum 0badcafe, found 1badcafe: it arrived damaged"),
    ],
)
def test_what_arrived_is_compared(talk: Talk, sums: list[str], told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    uboot, _ = stopped(talk, OVER_HTTP, spec=HTTP)
    command, left = uboot.command, list(sums)
    monkeypatch.setattr(
        uboot, "command", lambda text, **limit: f"==> {left.pop(0)}" if "crc32" in text else command(text, **limit)
    )
    with pytest.raises(InfraError, match=told) if told else contextlib.nullcontext():
        uboot.load(CHECKED)
    assert not left


def test_a_uboot_that_makes_no_checksums_is_believed(talk: Talk) -> None:
    uboot, _ = stopped(talk, {**OVER_HTTP, "crc32 .*": "Unknown command 'crc32' - try 'help'\r\n"}, spec=HTTP)
    assert uboot.load(CHECKED) == "0x40400000"


def test_a_system_that_asks_for_a_login_where_uboot_was_expected(talk: Talk) -> None:
    uboot, _ = talk(
        banner="Debian GNU/Linux 12 pi ttyS0\r\n\r\npi login: ", spec=UbootBoot(tftp_root="/t", uboot_seconds=0.3)
    )
    with pytest.raises(InfraError, match="waits for a login; see whether the board's firmware starts U-Boot"):
        uboot.stop()


def test_loading(talk: Talk) -> None:
    uboot, far = stopped(talk)
    uboot.network()
    assert uboot.load(FILE) == "0x40400000"
    assert far.commands[-1] == "tftpboot 0x40400000 harness/Image"


def test_a_fixed_address(talk: Talk) -> None:
    spec = UbootBoot(
        tftp_root="/t", address="10.1.2.3/22", gateway="10.1.0.1", server="10.1.0.2", before=("usb start",)
    )
    uboot, far = stopped(talk, spec=spec)
    uboot.network()
    assert far.commands[1:] == [
        "usb start",
        "setenv ipaddr 10.1.2.3; setenv netmask 255.255.252.0",
        "setenv gatewayip 10.1.0.1",
        "setenv serverip 10.1.0.2",
    ]


def test_booting_and_arguments_longer_than_a_command(talk: Talk) -> None:
    arguments = "quiet " + "x" * 900
    uboot, far = stopped(talk, {"booti .*": "## Flattened Device Tree blob\r\nStarting kernel ...\r\n"})
    uboot.boot("1", "2:3", "4", arguments=arguments)
    pieces = [command.rpartition("'")[0].partition("'")[2] for command in far.commands if "bootargs" in command]
    assert "".join(pieces) == arguments
    assert all(len(command) < 255 for command in far.commands)  # of a line buffer of 256


def test_arguments_are_not_cut_within_a_quoted_quote(talk: Talk) -> None:
    arguments = "quiet " + "'" * 150
    answers = {"printenv bootargs": f"bootargs={arguments}\r\n", "booti .*": "Starting kernel ...\r\n"}
    uboot, far = stopped(talk, answers)
    uboot.boot("1", "2:3", "4", arguments=arguments)
    commands = [command for command in far.commands if command.startswith("setenv bootargs")]
    assert len(commands) > 1
    words = [shlex.split(command)[2].removeprefix("${bootargs}") for command in commands]
    assert "".join(words) == arguments


@fault(
    "U-Boot's shell changes the kernel's arguments",
    where="boot",
    blame=Blame.INFRA,
    survives="the board: no kernel was started with other arguments; the message shows both",
)
@pytest.mark.parametrize("arguments", [r"dyndbg=\101", "it's"])
def test_arguments_that_uboot_changes_do_not_boot(talk: Talk, arguments: str) -> None:
    """Its shell drops backslashes even in single quotes, and quotes where it expands a variable."""
    uboot, far = stopped(talk, {"printenv bootargs": "bootargs=something else\r\n"})
    with pytest.raises(InfraError, match=r"b: cmdline: .*expected bootargs `.*found `something else`; leave"):
        uboot.boot("1", "2:3", "4", arguments=arguments)
    assert not any(command.startswith("booti") for command in far.commands)


@fault("U-Boot finds that the Image is none", where="boot", blame=Blame.INFRA, survives="U-Boot's own words")
def test_a_kernel_that_is_none(talk: Talk) -> None:
    uboot, _ = stopped(talk, {"booti .*": "Bad Linux ARM64 Image magic!\r\n"})
    with pytest.raises(InfraError, match=r"b: U-Boot: `booti 1 2:3 4`: Bad Linux ARM64 Image magic: the Image is not"):
        uboot.boot("1", "2:3", "4", arguments="")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("Loading: *\x08\r\nTFTP error: 'File not found' (1)\r\nNot retrying...\r\n", "see whether it serves"),
        ("\r\nTFTP error: 1 (File not found)\r\n", "see whether it serves"),  # with lwIP
        ("TFTP error: 'Access violation' (2)\r\n", "may not read the file"),
        ("Loading: T T T T T T \r\nRetry count exceeded; starting again\r\n", "DHCP and a TFTP server run"),
        ("ARP Retry count exceeded; starting again\r\n", "see boot.server"),
        ("No ethernet found.\r\n", "see boot.before"),
        ("Waiting for PHY auto negotiation to complete.... TIMEOUT !\r\n", "plug in"),
        ("TFTP error: trying to overwrite reserved memory...\r\n", "not free memory|refuses"),
        ("*** ERROR: `serverip' not set\r\n", "boot.server"),
        ("Bytes transferred = 1000 (3e8 hex)\r\n", "expected 1234 bytes, 1000 came"),
        ("Unknown command 'tftpboot' - try 'help'\r\n", "CMD_TFTPBOOT"),
        ("", "no such message"),
    ],
)
def test_what_goes_wrong_while_loading(talk: Talk, said: str, told: str) -> None:
    uboot, _ = stopped(talk, {"tftpboot .*": said})
    with pytest.raises(InfraError, match=told) as caught:
        uboot.load(FILE)
    assert caught.value.message.startswith("b: U-Boot: ")


@fault("no DHCP server answers U-Boot", where="network", blame=Blame.INFRA, survives="U-Boot's own words")
def test_no_dhcp_server(talk: Talk) -> None:
    uboot, _ = stopped(talk, {".*dhcp": "BOOTP broadcast 1\r\nBOOTP broadcast 2\r\nRetry time exceeded\r\n"})
    with pytest.raises(InfraError, match=r"Retry time exceeded: the server does not answer"):
        uboot.network()


def test_a_variable_that_is_not_there(talk: Talk) -> None:
    uboot, _ = stopped(talk, {"printenv kernel_addr_r": '## Error: "kernel_addr_r" not defined\r\n'})
    with pytest.raises(InfraError, match=r"no variable kernel_addr_r; set boot\.kernel_at"):
        uboot.load(FILE)


@fault("a board says nothing after it was switched on", where="power", blame=Blame.INFRA, survives="what to look at")
def test_a_board_that_says_nothing(talk: Talk) -> None:
    uboot, _ = talk(banner="", spec=UbootBoot(tftp_root="/t", uboot_seconds=0.2))
    with pytest.raises(InfraError, match="nothing came at all; see whether the board has power"):
        uboot.stop()


def test_a_board_without_uboot_shows_what_it_said(talk: Talk) -> None:
    uboot, _ = talk(banner="BL31: hello\r\n", spec=UbootBoot(tftp_root="/t", uboot_seconds=0.3))
    with pytest.raises(InfraError, match="it never showed") as caught:
        uboot.stop()
    assert "BL31: hello" in caught.value.details


def test_autoboot_that_is_faster(talk: Talk) -> None:
    uboot, _ = talk(stops=False)
    with pytest.raises(NotStopped, match=r"boot\.stop_keys"):
        uboot.stop()


def test_another_text_than_expected(talk: Talk) -> None:
    uboot, _ = talk(banner=BANNER + "Hit a key: 3", spec=UbootBoot(tftp_root="/t", uboot_seconds=0.5))
    with pytest.raises(NotStopped, match=r"neither said 'stop autoboot' nor showed a prompt"):
        uboot.stop()


@fault(
    "the serial line is lost while U-Boot runs",
    where="console",
    blame=Blame.INFRA,
    survives="the time until U-Boot's limit",
)
def test_a_line_that_is_lost_is_told_at_once(talk: Talk) -> None:
    uboot, far = talk(banner=BANNER + AUTOBOOT, spec=UbootBoot(tftp_root="/t", uboot_seconds=90.0))
    far.close()
    started = time.monotonic()
    with pytest.raises(InfraError, match="the serial line was lost"):
        uboot.stop()
    assert time.monotonic() - started < 60.0
