"""boards.yaml: what is right becomes values, what is wrong one line each."""

import pytest

from harness.errors import UserError
from harness.layout import BOARDS, KCONFIGS
from harness.model.board import (
    CommandSwitch,
    HttpRequest,
    HttpSwitch,
    LabgridPlace,
    Login,
    NetworkConsole,
    Power,
    SerialConsole,
    Ssh,
)
from harness.model.boot import GrubBoot, HttpServe, KexecBoot, QemuBoot, TftpServe, UbootBoot, UbootDiskBoot
from harness.parse.boards import parse_boards
from tests.boards import is_a


def test_the_projects_own_file() -> None:
    board = parse_boards(BOARDS.read_text(), place="boards.yaml")["qemu-virt"].board
    boot = is_a(QemuBoot, board.boot)
    assert boot.cpus >= 2
    assert boot.memory_mib <= 1024


def test_every_key_reaches_the_board() -> None:
    text = """
boards:
  b:
    description: d
    cmdline: quiet
    kconfigs: [x.config]
    limits: {boot: 7, silence: 2.5}
    boot: {method: qemu, machine: virt, cpu: max, cpus: 4, memory_mib: 512, accel: tcg, threads: single,
      extra_args: [-s]}
"""
    board = parse_boards(text, place="f")["b"].board
    assert (board.name, board.description, board.cmdline, board.kconfigs) == ("b", "d", "quiet", ("x.config",))
    assert (board.limits.boot, board.limits.silence) == (7.0, 2.5)
    boot = is_a(QemuBoot, board.boot)
    assert (boot.machine, boot.cpu, boot.cpus, boot.memory_mib, boot.accel) == ("virt", "max", 4, 512, "tcg")
    assert boot.threads == "single"
    assert boot.extra_args == ("-s",)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (
            "boards: {b: {consle: {}}}",
            ["f: boards.b.boot: expected this key, found none", "f: boards.b.consle: unknown key"],
        ),
        ("boards: {b: {boot: {method: qemu, cpus: two}}}", ["f: boards.b.boot.cpus: expected an integer, found 'two'"]),
        (
            "boards: {b: {boot: {method: qemu, memory_mib: 1}}}",
            ["f: boards.b.boot.memory_mib: expected greater than or"],
        ),
        (
            "boards: {b: {boot: {method: tftp}}}",
            ["f: boards.b.boot.method: expected 'qemu' or 'uboot' or 'kexec' or 'grub' or 'uboot-disk', found 'tftp'"],
        ),
        ("boards: 3", ["f: boards: expected a mapping, found 3"]),
        ("- a", ["f: document: expected a mapping, found a list"]),
        (": [", ["f:1:1: expected a YAML document, found a syntax error"]),
        ("", ["f: expected a mapping with the key `boards`, found an empty document"]),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, lines: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        parse_boards(text, place="f")
    told = [caught.value.message, *caught.value.details]
    assert len(told) == len(lines)
    for line, start in zip(told, lines, strict=True):
        assert line.startswith(start)


def test_a_qemu_board_that_says_nothing_gets_the_drivers_it_needs() -> None:
    board = parse_boards("boards: {b: {boot: {method: qemu}}}", place="f")["b"].board
    assert board.kconfigs == ("qemu-virt.config",)


UBOOT = """
defaults:
  lab:
    console: {kind: serial, device: /dev/null, slow_send_ms: 1}
    power: {kind: tasmota, host: switch, password: "${PASSWORD}"}
    boot: {method: uboot, tftp_root: /srv/tftp}
boards:
  a: {like: lab, console: {device: /dev/ttyUSB3}}
  b: {like: lab, power: {outlet: 2, off_seconds: 5}}
"""


def test_equal_boards_are_short_entries() -> None:
    entries = parse_boards(UBOOT, place="f", lookup=lambda name: "s3cret")
    a, b = entries["a"].board, entries["b"].board
    assert a.access.console == SerialConsole(device="/dev/ttyUSB3", slow_send_ms=1.0)
    assert b.access.console == SerialConsole(device="/dev/null", slow_send_ms=1.0)
    power = is_a(Power, b.access.power)
    assert power.off_seconds == 5.0
    assert "cmnd=Power2%20Off" in is_a(HttpRequest, is_a(HttpSwitch, power.switch).off).url
    assert a.kconfigs == ()


def test_secrets_are_used_but_not_told() -> None:
    board = parse_boards(UBOOT, place="f", lookup=lambda name: {"PASSWORD": "s3 cret"}[name])["a"].board
    url = is_a(HttpRequest, is_a(HttpSwitch, is_a(Power, board.access.power).switch).on).url
    assert "password=s3%20cret" in url
    assert board.access.redacted(f"GET {url}") == ("GET http://switch/cm?user=admin&password=***&cmnd=Power1%20On")


def test_a_word_that_stops_u_boot_is_used_but_not_told() -> None:
    text = UBOOT.replace("tftp_root: /srv/tftp", 'tftp_root: /srv/tftp, stop_keys: "${WORD}"')
    board = parse_boards(text, place="f", lookup=lambda name: {"WORD": "otter\r"}.get(name, "x"))["a"].board
    assert is_a(UbootBoot, board.boot).stop_keys == "otter\r"
    assert board.access.redacted("=> otter") == "=> ***"


def test_what_messages_have_to_name_is_no_secret() -> None:
    text = UBOOT.replace("/dev/null", '"${DEVICE}"').replace("/srv/tftp", '"${file:x}"')
    board = parse_boards(text, place="f", lookup=lambda name: f"/value-of-{name}")["b"].board
    assert board.access.redacted(is_a(SerialConsole, board.access.console).device) == "/value-of-DEVICE"
    assert board.access.redacted(is_a(UbootBoot, board.boot).tftp_root) == "***"


def test_a_missing_secret_is_told_when_the_board_is_used() -> None:
    assert parse_boards(UBOOT, place="f")["a"].unset == ("power.password: ${PASSWORD} has no value",)


def test_on_and_off_are_keys_not_booleans() -> None:
    text = """
boards:
  b:
    console: {kind: telnet, host: h, port: 7}
    power: {kind: command, on: switch 3 on, off: [switch, "3", off], check_silence: false}
    boot: {method: uboot, tftp_root: /t, address: 10.0.0.2/24, before: [usb start]}
"""
    board = parse_boards(text, place="f")["b"].board
    assert board.access.console == NetworkConsole(host="h", port=7, telnet=True)
    power = is_a(Power, board.access.power)
    assert power.switch == CommandSwitch(on=("sh", "-c", "switch 3 on"), off=("switch", "3", "off"))
    assert not power.check_silence
    boot = is_a(UbootBoot, board.boot)
    assert (boot.address, boot.before) == ("10.0.0.2/24", ("usb start",))


SERIAL = "console: {kind: serial, device: /dev/x"
POWER = "power: {kind: pdudaemon, host: h, pdu: p, outlet: 3}"
LABGRID = "labgrid: {coordinator: lab:20408, place: p"
TFTP = "boot: {method: uboot, tftp_root: /t"


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        (f"{SERIAL}, baud: 115k}}, {POWER}, {TFTP}}}", "console.baud: expected an integer, found '115k'"),
        (f"{SERIAL}, speed: 1}}, {POWER}, {TFTP}}}", "console.speed: unknown key; remove it or correct its spelling"),
        (
            f"{SERIAL}}}, {POWER}, boot: {{method: uboot}}",
            "boot.tftp_root: expected this key, because boot.load is tftp; found none",
        ),
        (f"console: {{device: /dev/x}}, {POWER}, {TFTP}}}", "console.kind: expected this key, found none"),
        (f"{SERIAL}}}, {TFTP}}}", "power: expected this key, because boot.method is uboot; found none"),
        (f"{SERIAL}}}, boot: {{method: qemu}}", "console: belongs to a board; QEMU has its own, remove it"),
        (f"{SERIAL}}}, {POWER}, {TFTP}, address: auto}}", "boot.address: expected"),
        (f"{LABGRID}}}, {POWER}, {TFTP}}}", "power: the place that `labgrid` names provides it; remove one of them"),
        (
            f"{LABGRID}}}, {SERIAL}}}, {TFTP}}}",
            "console: the place that `labgrid` names provides it; remove one of them",
        ),
        (f"{LABGRID}}}, boot: {{method: qemu}}", "labgrid: belongs to a board; QEMU has its own, remove it"),
        (f"{LABGRID}, match: x}}, {TFTP}}}", "labgrid.match: unknown key; remove it or correct its spelling"),
        (f"labgrid: {{coordinator: http://x, place: p}}, {TFTP}}}", "labgrid.coordinator: expected"),
        ("pool: p, boot: {method: qemu}", "pool: belongs to boards; of QEMU's machines there are as many as -j says"),
        ("like: nobody, boot: {method: qemu}", "like: expected a key of `defaults` (none there), found 'nobody'"),
    ],
)
def test_what_is_wrong_with_a_board_is_told_with_its_place(entry: str, told: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_boards(f"boards: {{b: {{{entry}}}}}", place="f")
    assert caught.value.message.startswith(f"f: boards.b.{told}")


KEXEC = """
boards:
  server:
    boot: {{method: kexec, directory: /srv/x, system_seconds: 60}}
    console: {{kind: command, run: [ipmitool, sol, activate]}}
    power: {{kind: command, on: "true", off: "true"}}
    ssh: {ssh}
"""


def test_a_server_with_a_system_of_its_own() -> None:
    text = KEXEC.format(ssh="{host: s, port: 2222, user: lab, key: ~/k, host_key: 'SHA256:x', address: 10.0.0.7/24}")
    board = parse_boards(text, place="f")["server"].board
    boot = is_a(KexecBoot, board.boot)
    assert (boot.directory, boot.system_seconds) == ("/srv/x", 60)
    ssh = is_a(Ssh, board.access.ssh)
    assert (ssh.host, ssh.port, ssh.address) == ("s", 2222, "10.0.0.7/24")
    login = is_a(Login, ssh.login)
    assert (login.user, login.key, login.host_key) == (
        "lab",
        "~/k",
        "SHA256:x",
    )


def test_other_ways_to_start_from_an_own_system() -> None:
    text = KEXEC.format(ssh="{host: s}").replace("method: kexec, directory: /srv/x", "method: grub")
    board = parse_boards(text, place="f")["server"].board
    assert board.boot == GrubBoot(directory="", dtb="", system_seconds=60)
    words = "method: uboot-disk, partition: 'mmc 0:1', fdt: fdt_addr, uboot_seconds: 9, before: [usb start]"
    board = parse_boards(text.replace("method: grub", words), place="f")["server"].board
    uboot = UbootBoot(tftp_root="", fdt="fdt_addr", uboot_seconds=9, before=("usb start",))
    assert board.boot == UbootDiskBoot(partition="mmc 0:1", uboot=uboot, system_seconds=60)
    with pytest.raises(UserError, match=r"server\.boot\.partition: expected a text that matches"):
        parse_boards(text.replace("method: grub", "method: uboot-disk, partition: mmcblk0p1"), place="f")


def test_the_password_of_a_server_is_a_secret() -> None:
    board = parse_boards(KEXEC.format(ssh="{host: s, password: swordfish}"), place="f")["server"].board
    assert board.access.redacted("swordfish is it") == "*** is it"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (KEXEC.format(ssh="{}"), r"server\.ssh\.host: expected the address of the board's own system"),
        (KEXEC.format(ssh="{host: s, address: 10.0.0.7}"), r"server\.ssh\.address"),
        (
            "boards: {b: {boot: {method: kexec}, console: {kind: serial, device: x}, power: {kind: tasmota, host: h}}}",
            r"b\.ssh: expected this key, because boot\.method is kexec",
        ),
        (
            "boards: {b: {boot: {method: uboot, tftp_root: /t}, console: {kind: serial, device: x},"
            " power: {kind: tasmota, host: h}, ssh: {user: me}}}",
            r"b\.ssh\.user: belongs to a board with a system of its own",
        ),
        ("boards: {b: {boot: {method: qemu}, ssh: {}}}", r"b\.ssh: belongs to a board"),
    ],
)
def test_ssh_that_does_not_fit_the_boot_method(text: str, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        parse_boards(text, place="f")


def test_a_labgrid_place_instead_of_console_and_power() -> None:
    entry = f"{LABGRID}, serial: uart, off_seconds: 4}}, console: null, power: null, {TFTP}}}"
    text = f"{UBOOT}  c: {{like: lab, {entry}}}"
    board = parse_boards(text, place="f")["c"].board
    assert board.labgrid == LabgridPlace(coordinator="lab:20408", place="p", serial="uart", off_seconds=4.0)
    assert (board.access.console, board.access.power) == (None, None)


def test_a_labgrid_place_may_tell_where_a_server_is() -> None:
    text = f"boards: {{b: {{{LABGRID}}}, boot: {{method: kexec}}}}}}"
    assert parse_boards(text, place="f")["b"].board.access.ssh == Ssh()
    keyed = parse_boards(text.replace("boot:", "ssh: {key: k, user: root}, boot:"), place="f")["b"].board
    assert is_a(Ssh, keyed.access.ssh).given == {"key", "user"}


def test_a_default_stands_for_what_the_environment_does_not_have() -> None:
    text = UBOOT.replace("/dev/null", '"${DEVICE:-/dev/ttyUSB7}"').replace('"${PASSWORD}"', '"${PASSWORD:-}"')
    entry = parse_boards(text, place="f")["b"]
    assert entry.unset == ()
    assert (entry.board.access.secrets, is_a(SerialConsole, entry.board.access.console).device) == ((), "/dev/ttyUSB7")
    board = parse_boards(text, place="f", lookup=lambda name: f"value-of-{name}")["b"].board
    assert (board.access.secrets, is_a(SerialConsole, board.access.console).device) == (
        ("value-of-PASSWORD",),
        "value-of-DEVICE",
    )


def test_a_tftp_server_of_ours() -> None:
    text = UBOOT.replace("/srv/tftp}", "/srv/tftp, tftp_serve: {address: 10.0.0.1, dhcp: [10.0.0.5, 10.0.0.9]}}")
    boot = is_a(UbootBoot, parse_boards(text, place="f", lookup=lambda name: name)["b"].board.boot)
    assert boot.tftp_serve == TftpServe(address="10.0.0.1", dhcp=("10.0.0.5", "10.0.0.9"))
    assert boot.server == "10.0.0.1"  # not the one that DHCP tells


@pytest.mark.parametrize("mac", ["02:00:00:00:00:aB", "12:34:56:12:34:56", '"02:00:00:00:00:01"'])
def test_dhcp_for_one_board(mac: str) -> None:
    """The second one is a number to YAML 1.1."""
    for server in ("tftp_serve", "http_serve"):
        keys = f"/srv/tftp, {server}: {{address: 10.0.0.1, dhcp: [10.0.0.5, 10.0.0.9], mac: {mac}, dhcp_any: true}}}}"
        text = UBOOT.replace("/srv/tftp}", keys)
        boot = is_a(UbootBoot, parse_boards(text, place="f", lookup=lambda name: name)["b"].board.boot)
        serve = boot.tftp_serve or boot.http_serve
        assert serve
        assert (serve.mac, serve.dhcp_any) == (mac.strip('"').lower(), True)


@pytest.mark.parametrize("mac", ["02:00:00:00:00", "02-00-00-00-00-01", "'02:00:00:00:00:01,set:x'", "1"])
def test_what_is_no_mac_address_is_told(mac: str) -> None:
    text = UBOOT.replace("/srv/tftp}", f"/srv/tftp, tftp_serve: {{address: 10.0.0.1, mac: {mac}}}}}")
    with pytest.raises(UserError, match=r"f: boards\.a\.boot\.tftp_serve\.mac: expected"):
        parse_boards(text, place="f", lookup=lambda name: name)


HTTP = "/srv/tftp, load: http"


def test_a_web_server_of_ours_or_the_labs() -> None:
    text = UBOOT.replace("/srv/tftp", f"{HTTP}, http_serve: {{address: 10.0.0.1, port: 8080}}")
    boot = is_a(UbootBoot, parse_boards(text, place="f", lookup=lambda name: name)["b"].board.boot)
    assert (boot.http_serve, boot.http_url) == (HttpServe(address="10.0.0.1", port=8080), "http://10.0.0.1:8080")
    text = UBOOT.replace("/srv/tftp", f"{HTTP}, http_root: /srv/www, http_url: http://10.0.0.1/boot/")
    boot = is_a(UbootBoot, parse_boards(text, place="f", lookup=lambda name: name)["b"].board.boot)
    assert (boot.http_serve, boot.http_root, boot.http_url) == (None, "/srv/www", "http://10.0.0.1/boot")


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (HTTP, "http_root: expected this key, or http_serve instead, because boot.load is http; found none"),
        (f"{HTTP}, http_root: /w", "http_url: expected this key, or http_serve instead, because boot.load is http"),
        (f"{HTTP}, http_root: /w, http_url: http://host/x", "http_url: expected"),
        (f"{HTTP}, http_root: /w, http_url: https://10.0.0.1/x", "http_url: expected"),
        (f"{HTTP}, http_root: /w, http_url: 'http://10.0.0.1/x;reset'", "http_url: expected"),
        (f"{HTTP}, http_serve: {{address: 10.0.0.1, port: 0}}", "http_serve.port: expected"),
        ("/srv/tftp, load: nfs", "load: expected 'tftp' or 'http', found 'nfs'"),
    ],
)
def test_what_is_wrong_with_a_load_over_http(keys: str, told: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_boards(UBOOT.replace("/srv/tftp", keys), place="f", lookup=lambda name: name)
    assert f"f: boards.a.boot.{told}" in caught.value.message


def test_where_a_load_comes_from_may_be_told_later() -> None:
    entry = parse_boards(UBOOT.replace("/srv/tftp", f"{HTTP}, http_root: /w, http_url: '${{URL}}'"), place="f")["a"]
    assert "boot.http_url: ${URL} has no value" in entry.unset


def test_the_boards_that_come_with_it_are_listed_and_usable_with_an_empty_environment() -> None:
    boards = parse_boards(BOARDS.read_text(), place="boards.yaml")
    assert {"qemu-virt", "rpi4", "rpi3", "uboot-board"} <= set(boards)
    for name in ("rpi4", "rpi3", "uboot-board"):
        assert not boards[name].unset
        board = boards[name].board
        assert isinstance(board.access.console, SerialConsole)
        assert board.access.console.device.startswith("/dev/")
        assert all((KCONFIGS / fragment).is_file() for fragment in board.kconfigs)


POOL = """
defaults:
  lab:
    console: {kind: serial, device: /dev/null}
    power: {kind: tasmota, host: switch}
    boot: {method: uboot, tftp_root: /srv/tftp, dtb: x.dtb}
    pool: "${POOL:-equal}"
boards:
  a: {like: lab, kconfigs: [x.config], cmdline: quiet}
  b: {like: lab, kconfigs: [x.config], cmdline: quiet, console: {device: /dev/ttyUSB1}, limits: {boot: 300}}
  other: {like: lab, pool: "", kconfigs: [y.config]}
"""


def test_boards_of_a_pool() -> None:
    boards = parse_boards(POOL, place="f")
    assert {name: entry.board.pool for name, entry in boards.items()} == {"a": "equal", "b": "equal", "other": ""}


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            "console: {device: /dev/ttyUSB1}",
            "boot: {dtb: y.dtb}",
            "b.boot.dtb: expected 'x.dtb', as boards.a of the sam",
        ),
        ("[x.config], cmdline: quiet, c", "[], cmdline: quiet, c", "b.kconfigs: expected 'x.config', as boards.a of t"),
        (
            "cmdline: quiet, c",
            "c",
            "b.cmdline: expected 'quiet', as boards.a of the same pool 'equal' has it, found ''",
        ),
        ('pool: "", kconfigs: [y', "kconfigs: [x", "other.cmdline: expected 'quiet', as boards.a of the same pool"),
    ],
)
def test_boards_of_a_pool_that_run_another_kernel_are_told(old: str, new: str, told: str) -> None:
    assert old in POOL
    with pytest.raises(UserError) as caught:
        parse_boards(POOL.replace(old, new), place="f")
    assert caught.value.message.startswith(f"f: boards.{told}")


def test_a_boot_method_of_its_own_has_no_place_in_a_pool() -> None:
    text = f"{POOL}{KEXEC.format(ssh='{host: s}').partition('boards:')[2]}    pool: equal"
    with pytest.raises(UserError, match=r"server\.boot\.method: expected 'uboot', as boards\.a .* found 'kexec'"):
        parse_boards(text, place="f")


def test_a_board_whose_values_are_missing_here_spoils_no_pool() -> None:
    text = POOL.replace("[x.config], cmdline: quiet, c", '["${NOWHERE}"], cmdline: quiet, c')
    assert parse_boards(text, place="f")["b"].unset
