"""boards.yaml with values that no machine has, names that lead elsewhere, and secrets in places that are wrong: each is
refused in a line, and no message shows a secret."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from harness.boards.inventory import read_inventory
from harness.errors import UserError
from harness.layout import BOARDS_DOCS
from harness.limits import OUTSIDE_BYTES
from harness.model.board import CommandConsole, CommandSwitch, HttpSwitch, Login, Power, Ssh
from harness.model.names import as_name, is_name, is_path_of_names
from harness.parse import board_shapes, document
from harness.parse.boards import parse_boards
from harness.parse.boards_schema import schema
from harness.target.methods.hardware import describe
from harness.target.shells.ssh import SshHost
from tests.boards import is_a
from tests.faults.catalogue import Blame, fault

# Entries that together have every key that there is.
UBOOT = """
  b:
    description: d
    pool: p
    cmdline: quiet
    kconfigs: [boards/x.config, /abs/y.config]
    limits: {boot: 7, silence: 2}
    console: CONSOLE
    power: POWER
    ssh: {host: h, port: 22, address: 10.0.0.7/24, gateway: 10.0.0.1}
    boot: {method: uboot, load: tftp, tftp_root: /t, tftp_serve: {address: 10.0.0.1, dhcp: [10.0.0.5, 10.0.0.9],
      mac: "02:00:00:00:00:01", dhcp_any: false},
      http_root: /w, http_url: http://10.0.0.1/w, http_serve: {address: 10.0.0.1, port: 80}, server: s,
      address: 10.0.0.7/24, gateway: 10.0.0.1, dtb: x.dtb, fdt: f, kernel_at: k, ramdisk_at: r, dtb_at: d,
      before: [usb start], stop_text: t, stop_keys: k, stop_from: text, stop_every_ms: 100,
      uboot_seconds: 3, load_seconds: 4}
"""
CONSOLES = (
    "{kind: serial, device: /dev/x, baud: 9600, flow: none, slow_send_ms: 1}",
    "{kind: telnet, host: h, port: 7, slow_send_ms: 1}",
    "{kind: command, run: [a, b], slow_send_ms: 1}",
)
REQUEST = "{url: 'http://h/x', method: PUT, body: b, headers: {X-Key: v}, expect: e}"
POWERS = (
    "{kind: command, on: a, off: [b, c], off_seconds: 1, check_silence: true}",
    f"{{kind: http, on: {REQUEST}, off: {REQUEST}, user: u, password: p}}",
    "{kind: tasmota, host: h, outlet: 1, user: u, password: p}",
    "{kind: shelly, host: h, outlet: 1, generation: 1, user: u, password: p}",
    "{kind: pdudaemon, host: h, port: 1, pdu: p, outlet: 3}",
)
OTHERS = (
    "{boot: {method: qemu, machine: virt, cpu: max, cpus: 2, memory_mib: 512, accel: tcg, threads: multi,"
    " extra_args: [-s]}}",
    "{boot: {method: kexec, directory: /x, dtb: x.dtb, system_seconds: 3, load_seconds: 4}, console: CONSOLE,"
    " power: POWER, ssh: {host: h, user: u, key: k, password: p, host_key: x}}",
    "{boot: {method: grub, directory: /x, dtb: x.dtb, system_seconds: 3}, labgrid: {coordinator: c, place: p,"
    " serial: s, power: p, ssh: s, slow_send_ms: 1, off_seconds: 1, check_silence: true}}",
    "{boot: {method: uboot-disk, partition: 'mmc 0:1', directory: /x, system_seconds: 3}, labgrid: {coordinator: c,"
    " place: p}}",
)


def whole(text: str, *, console: str = CONSOLES[0], power: str = POWERS[0]) -> Any:
    text = text.replace("CONSOLE", console).replace("POWER", power)
    return document.load(f"boards: {text}" if text.startswith("\n") else f"boards: {{b: {text}}}", place="f")


DOCUMENTS = (
    *(whole(UBOOT, console=CONSOLES[number % 3], power=power) for number, power in enumerate(POWERS)),
    *(whole(text) for text in OTHERS),
)


def leaves(value: object, *path: str | int) -> Iterator[tuple[str | int, ...]]:
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(inner, *path, key)
    else:
        yield path


def changed(value: Any, path: tuple[str | int, ...], new: object) -> Any:
    if not path:
        return new
    copy: Any = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = changed(value[path[0]], path[1:], new)
    return copy


def at(value: Any, path: tuple[str | int, ...]) -> object:
    for key in path:
        value = value[key]
    return value


def read(data: object) -> None:
    parse_boards("x", place="f") if data is None else parse_boards(as_yaml(data), place="f")


def as_yaml(value: object) -> str:
    """Flow style by hand: numbers as YAML writes them, and control characters escaped in double quotes."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{as_yaml(key)}: {as_yaml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_yaml, value)) + "]"
    if isinstance(value, bool | None):
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, str):
        special = {'"': '\\"', "\\": "\\\\"}
        return '"' + "".join(special.get(c, c if c.isprintable() else f"\\u{ord(c):04x}") for c in value) + '"'
    if isinstance(value, float):
        return {"inf": ".inf", "-inf": "-.inf", "nan": ".nan"}.get(str(value), f"{value:.6e}")
    return str(value)


def test_the_entries_above_have_every_key() -> None:
    """So that a key that is added later is tried here, too."""
    for data in DOCUMENTS:
        read(data)
    seen = {str(key) for data in DOCUMENTS for path in leaves(data) for key in path}
    known = {key for node in board_shapes.Boards.model_json_schema()["$defs"].values() for key in node["properties"]}
    assert known - seen == set()


@fault(
    "a number in boards.yaml that is infinite, no number, negative or huge",
    where="hostile input",
    blame=Blame.USER,
    survives="every key is told by its place; the schema for editors refuses it too",
)
@pytest.mark.parametrize(
    "bad",
    [float("inf"), float("-inf"), float("nan"), -1, 10**30, 10**90, 1e300],
    ids=["inf", "-inf", "nan", "negative", "large", "huge", "1e300"],
)
def test_no_number_is_beyond_what_a_machine_can_have(bad: float) -> None:
    validator = jsonschema.Draft7Validator(schema(BOARDS_DOCS.read_text()))
    tried = set()
    for data in DOCUMENTS:
        for path in leaves(data):
            if isinstance(at(data, path), int | float) and not isinstance(at(data, path), bool):
                wrong = changed(data, path, bad)
                with pytest.raises(UserError) as caught:
                    read(wrong)
                told = [caught.value.message, *caught.value.details]
                place = ".".join(map(str, path))
                assert any(line.startswith(f"f: {place}: expected ") for line in told), told
                assert all(len(line) < 300 for line in told)
                if bad == bad:  # JSON knows no NaN
                    assert list(validator.iter_errors(wrong)), place
                tried.add(path)
    assert len(tried) >= 18


@pytest.mark.parametrize("bad", ["inf", "-inf", "nan", "1e999", "9" * 400, "-1"])
def test_nor_is_one_from_the_environment(bad: str) -> None:
    with pytest.raises(UserError, match=r"f: boards\.b\.limits\.boot: expected"):
        parse_boards('boards: {b: {limits: {boot: "${X}"}, boot: {method: qemu}}}', place="f", lookup=lambda _: bad)


@fault(
    "NUL, escape sequences and other control characters in each key and text of boards.yaml",
    where="hostile input",
    blame=Blame.USER,
    survives="the place is told; nothing of it reaches a terminal, a path or a command line",
)
@pytest.mark.parametrize("bad", ["\0", "\x1b[2J", "\x07", "\r", "\x9b31m", "\u2028"])
def test_no_text_has_control_characters(bad: str) -> None:
    tried = set()
    for data in DOCUMENTS:
        for path in leaves(data):
            value = at(data, path)
            if isinstance(value, str) and path[-1] != "stop_keys":
                with pytest.raises(UserError) as caught:
                    read(changed(data, path, f"{value}{bad}"))
                told = "".join([caught.value.message, *caught.value.details])
                assert ".".join(map(str, path)) in told
                assert bad not in told
                tried.add(path)
    assert len(tried) >= 40


def test_texts_of_several_lines_are_where_they_make_sense() -> None:
    data = whole(UBOOT.replace("description: d", 'description: "one\\n\\ttwo\\n"'), console=CONSOLES[2])
    read(changed(data, ("boards", "b", "console", "run"), "set -e\n\tipmitool sol\n"))
    read(changed(data, ("boards", "b", "boot", "stop_keys"), "\x03\x1b\r"))
    for key in ("cmdline", "pool"):
        with pytest.raises(UserError, match=rf"f: boards\.b\.{key}: expected a text without control"):
            read(changed(data, ("boards", "b", key), "a\nb"))
    with pytest.raises(UserError, match=r"boot\.stop_keys"):
        read(changed(data, ("boards", "b", "boot", "stop_keys"), "\0"))


def test_a_header_is_a_text_too() -> None:
    """Its name may be any text, and a line end in it would begin a header of its own."""
    data = whole(UBOOT, power=POWERS[1])
    with pytest.raises(UserError, match=r"a key of boards\.b\.power\.on\.headers: expected a text without control"):
        read(changed(data, ("boards", "b", "power", "on", "headers"), {"X\nY": "v"}))


NAMES = ["../../x", "..", ".", ".hidden", "a/b", "/etc", "", "-rf", "a b", "a\x1b[31mb", "a\0b", "ä", "a\n", "x" * 101]


@fault(
    "a board, a device tree or a fragment named ../../x, -rf, or with escape sequences",
    where="hostile input",
    blame=Blame.USER,
    survives="no path outside of the harness's directories is used",
)
@pytest.mark.parametrize("name", NAMES)
def test_a_name_becomes_no_path_elsewhere(name: str) -> None:
    assert not is_name(name)
    with pytest.raises(UserError, match="expected") as caught:
        read({"boards": {name: {"boot": {"method": "qemu"}}}})
    assert caught.value.message.isprintable()
    data = whole(UBOOT)
    for path in (("boards", "b", "boot", "dtb"), ("boards", "b", "kconfigs", 0)):
        if name in ("a/b", "/etc") and path[-1] == 0:
            continue  # files below kconfigs/, or anywhere by an absolute path
        if name == "" and path[-1] == "dtb":
            continue  # none
        with pytest.raises(UserError, match="expected"):
            read(changed(data, path, name))


def test_names_that_people_use() -> None:
    for name in ("rpi4", "lab-1", "imx8.mp_2", "bcm2711-rpi-4-b.dtb", "me@rack", "6.1~rc1", "0"):
        assert is_name(name)
    assert is_path_of_names("boards/rpi4.config")
    assert not is_path_of_names("boards/../rpi4.config")
    assert not is_path_of_names("boards//x")


@pytest.mark.parametrize("text", [*NAMES, "ftrace/func: a [b]", "testcases/x.py::test[1-a/b]"])
def test_any_text_has_a_name(text: str) -> None:
    assert is_name(as_name(text))


@pytest.mark.parametrize(
    ("key", "bad"),
    [
        (("on", "url"), "http://h:99999/x"),  # connects to another port, without a word
        (("on", "url"), "http://h:0/x"),
        (("on", "url"), "http://[::1/x"),
        (("on", "url"), "http:///x"),
        (("on", "url"), "ftp://h/x"),
        (("on", "method"), "GE T"),
        (("on", "headers"), {"X Y": "v"}),
        (("on", "headers"), {"X": "\u20ac"}),
    ],
)
def test_what_is_no_request_is_told(key: tuple[str, ...], bad: object) -> None:
    data = whole(UBOOT, power=POWERS[1])
    with pytest.raises(UserError, match=rf"f: boards\.b\.power\.{'.'.join(key)}[^:]*: expected"):
        read(changed(data, ("boards", "b", "power", *key), bad))


@pytest.mark.parametrize("host", ["h:99999", "h:x", "[::1", "a b", "h/x", "me@h", "a..b", "x" * 64, "h?x", "h#x"])
def test_what_is_no_host_is_told(host: str) -> None:
    for document_, place in (
        (whole(UBOOT, power=POWERS[2]), ("power", "host")),
        (whole(UBOOT, console=CONSOLES[1]), ("console", "host")),
        (whole(UBOOT), ("ssh", "host")),
    ):
        with pytest.raises(UserError, match=rf"f: boards\.b\.{'.'.join(place)}: expected"):
            read(changed(document_, ("boards", "b", *place), host))


@pytest.mark.parametrize(
    "host", ["plug-3", "10.0.0.7", "10.0.0.7:8080", "plug.lab.", "[fe80::1]:80", "fe80::1%eth0", "a_b"]
)
def test_what_is_a_host(host: str) -> None:
    read(changed(whole(UBOOT, power=POWERS[2]), ("boards", "b", "power", "host"), host))


def test_a_login_in_a_url_is_refused_without_being_shown() -> None:
    data = changed(whole(UBOOT, power=POWERS[1]), ("boards", "b", "power", "on", "url"), "http://admin:pw9@h/x")
    with pytest.raises(UserError, match=r"power\.on\.url: expected .* without a login") as caught:
        read(data)
    assert "pw9" not in caught.value.message


@pytest.mark.parametrize("key", ["password", "user"])
def test_a_password_of_the_wrong_type_is_not_shown(key: str) -> None:
    data = changed(whole(UBOOT, power=POWERS[2]), ("boards", "b", "power", key), 90210)
    with pytest.raises(UserError, match=rf"power\.{key}: expected a string, found") as caught:
        read(data)
    assert ("90210" in caught.value.message) == (key == "user")


def test_what_a_file_contains_is_not_shown_where_it_does_not_fit() -> None:
    text = 'boards: {b: {limits: {boot: "${file:x}"}, pool: "${file:x}", boot: {method: qemu}}}'
    with pytest.raises(UserError, match=r"limits\.boot: expected") as caught:
        parse_boards(text, place="f", lookup=lambda _: "swordfish")
    assert "swordfish" not in caught.value.message


@pytest.mark.parametrize(
    ("file", "told"),
    [
        ("/dev/null", "it is a device, not a regular file"),
        ("pipe", "it is a pipe, not a regular file"),
        ("large", "expected at most 100 bytes"),
        ("none", "No such file or directory"),
        ("bytes", "it is not text"),
        ("a\\0b", "embedded null byte"),
    ],
)
@fault(
    "boards.yaml refers to a device, a pipe, or a large file",
    where="hostile input",
    blame=Blame.USER,
    survives="the other boards; the message says what the file is",
)
def test_a_value_that_no_file_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, told: str) -> None:
    monkeypatch.setenv(OUTSIDE_BYTES.variable, "100")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_text("x" * 101)
    (tmp_path / "bytes").write_bytes(b"\xff")
    (tmp_path / "good").write_text("swordfish\n")
    boards = "".join(
        f'  {name}: {{boot: {{method: qemu}}, cmdline: "${{file:{path}}}"}}\n'
        for name, path in {"bad": file, "good": "good"}.items()
    )
    (tmp_path / "boards.yaml").write_text(f"boards:\n{boards}")
    inventory = read_inventory(tmp_path / "boards.yaml")
    assert inventory.board("good").cmdline == "swordfish"
    with pytest.raises(UserError) as caught:
        inventory.board("bad")
    assert told in caught.value.message
    assert caught.value.exit_code == 2


@fault(
    "the private key that boards.yaml names is a device or a pipe",
    where="hostile input",
    blame=Blame.USER,
    survives="the board: nothing connects to it",
)
@pytest.mark.parametrize("kind", ["device", "pipe"])
def test_a_key_that_is_no_file(tmp_path: Path, kind: str) -> None:
    path = Path("/dev/null")
    if kind == "pipe":
        os.mkfifo(path := tmp_path / "key")
    host = SshHost(Ssh(host="127.0.0.1", port=1, login=Login(key=str(path))), place="b.ssh")
    with pytest.raises(UserError, match=rf"b\.ssh\.key: expected a private key, can't read .*it is a {kind}"):
        host.connect()


@fault(
    "a secret of three characters in commands and requests of boards.yaml",
    where="power",
    blame=Blame.NOBODY,
    survives="the secret: *** stands for it in lists and messages, and nothing else does",
)
def test_short_secrets_are_masked_where_they_stand() -> None:
    text = """
boards:
  b:
    console: {kind: command, run: "ipmitool -P ${PW} -H one sol activate"}
    power: {kind: command, on: [ipmitool, -P, "${PW}", on], off: "ipmitool -P '${PW}' off"}
    boot: {method: uboot, tftp_root: /t}
  t:
    console: {kind: serial, device: /dev/one}
    power: {kind: tasmota, host: one, password: "on"}
    boot: {method: uboot, tftp_root: /t}
"""
    boards = parse_boards(text, place="f", lookup=lambda _: "on")
    access = boards["b"].board.access
    assert is_a(CommandConsole, access.console).argv[2] == "ipmitool -P on -H one sol activate"
    switch = is_a(CommandSwitch, is_a(Power, access.power).switch)
    assert (switch.on, switch.masked_on) == (("ipmitool", "-P", "on", "on"), ("ipmitool", "-P", "***", "on"))
    assert describe(boards["b"].board) == "uboot, console sh -c 'ipmitool -P *** -H one sol activate'"
    http = is_a(HttpSwitch, is_a(Power, boards["t"].board.access.power).switch)
    assert "password=on&" in http.on.url
    assert http.on.shown == "http://one/cm?cmnd=Power1%20On"
    assert describe(boards["t"].board) == "uboot, console /dev/one"
