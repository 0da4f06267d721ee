"""The JSON schema for editors takes what parse/boards.py takes, and is the one that lies in docs/."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

import jsonschema
import pytest

from harness.errors import UserError
from harness.layout import BOARDS, BOARDS_DOCS, PROJECT
from harness.model.board import HttpRequest, HttpSwitch, NetworkConsole, Power
from harness.model.boot import QemuBoot
from harness.parse import document
from harness.parse.boards import parse_boards
from harness.parse.boards_schema import schema
from tests.boards import is_a

COMMITTED = PROJECT / "docs/boards.schema.json"
TWINS = PROJECT / "tests/twins/boards.yaml"
LAB = """
defaults:
  lab:
    console: {kind: telnet, host: "${RACK}", slow_send_ms: "${SLOW}"}
    power: {kind: tasmota, host: switch, password: "${file:x}"}
    boot: {method: uboot, tftp_root: /srv/tftp, address: "${ADDRESS}"}
boards:
  a: {like: lab, console: {port: 4001}}
  b: {like: lab, console: {port: "${PORT}"}, power: {kind: http, on: {url: "http://h"}, off: {url: "http://h"}}}
  c: {boot: {method: qemu, cpus: "${CPUS}", accel: "${ACCEL}"}, limits: {silence: 7}}
"""
VALUES = {
    "RACK": "r",
    "SLOW": "2.5",
    "ADDRESS": "10.0.0.7/24",
    "PORT": "4002",
    "CPUS": "3",
    "ACCEL": "tcg",
    "file:x": "7",
}


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft7Validator:
    made = schema(BOARDS_DOCS.read_text())
    jsonschema.Draft7Validator.check_schema(made)
    return jsonschema.Draft7Validator(made)


def complaints(validator: jsonschema.Draft7Validator, text: str) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document.load(text, place="f"))]


def test_the_committed_one_is_the_one_that_is_made() -> None:
    told = "docs/boards.schema.json is out of date: bin/harness boards --schema > docs/boards.schema.json"
    assert json.loads(COMMITTED.read_text()) == schema(BOARDS_DOCS.read_text()), told


@pytest.mark.parametrize("file", [BOARDS, TWINS], ids=lambda file: str(file.relative_to(PROJECT)))
def test_our_own_files_fit_and_name_it(file: Path, validator: jsonschema.Draft7Validator) -> None:
    text = file.read_text()
    assert complaints(validator, text) == []
    first = text.partition("\n")[0]
    assert first == f"# yaml-language-server: $schema={os.path.relpath(COMMITTED, file.parent)}"


def test_equal_boards_and_values_from_outside_fit(validator: jsonschema.Draft7Validator) -> None:
    assert complaints(validator, LAB) == []
    boards = parse_boards(LAB.replace(", power: {kind: http, on: {url: \"http://h\"}, off: {url: \"http://h\"}}", ""),
                          place="f", lookup=VALUES.__getitem__)  # fmt: skip
    access = boards["b"].board.access
    console = is_a(NetworkConsole, access.console)
    assert (console.port, console.slow_send_ms) == (4002, 2.5)
    switch = is_a(HttpSwitch, is_a(Power, access.power).switch)
    assert "password=7&" in is_a(HttpRequest, switch.on).url
    boot = is_a(QemuBoot, boards["c"].board.boot)
    assert (boot.cpus, boot.accel) == (3, "tcg")


@pytest.mark.parametrize(
    "entry",
    [
        "{boot: {method: qemu}, consle: {}}",
        "{boot: {method: qemu, cpu_count: 2}}",
        "{boot: {method: qemu, cpus: two}}",
        "{boot: {method: qemu, cpus: 0}}",
        "{boot: {method: tftp}}",
        "{boot: {}}",
        "{}",
        "{like: x, boot: {method: uboot, tftproot: /t}}",
        "{like: x, console: {boud: 115200}}",
        "{boot: {method: uboot, tftp_root: /t, address: auto}}",
        "{boot: {method: uboot, tftp_root: /t}, console: {kind: serial, device: /dev/x, baud: 115k}}",
        "{boot: {method: uboot, tftp_root: /t}, power: {kind: tasmota, host: h, outlet: x}}",
    ],
)
def test_what_is_misspelt_is_refused_by_both(entry: str, validator: jsonschema.Draft7Validator) -> None:
    text = f"{{defaults: {{x: {{boot: {{method: qemu}}}}}}, boards: {{b: {entry}}}}}"
    with pytest.raises(UserError):
        parse_boards(text, place="f")
    assert complaints(validator, text)


LINE = "console: {kind: serial, device: /dev/x}, power: {kind: tasmota, host: h}, boot: {method: uboot"


@pytest.mark.parametrize(
    ("keys", "fits"),
    [
        ("tftp_root: /t", True),
        ("load: tftp", False),
        ("load: http, tftp_root: /t", False),
        ("load: http, http_root: /w", False),
        ("load: http, http_root: /w, http_url: http://10.0.0.1:81/w", True),
        ("load: http, http_serve: {address: 10.0.0.1}", True),
        ("http_serve: {address: 10.0.0.1}", False),
    ],
)
def test_what_a_load_needs_is_known_to_both(keys: str, fits: bool, validator: jsonschema.Draft7Validator) -> None:
    text = f"boards: {{b: {{{LINE}, {keys}}}}}}}"
    assert (not complaints(validator, text)) == fits
    with contextlib.nullcontext() if fits else pytest.raises(UserError, match="because boot"):
        parse_boards(text, place="f")


def test_keys_have_the_descriptions_of_the_documentation(validator: jsonschema.Draft7Validator) -> None:
    defined = is_a(dict, validator.schema)["$defs"]
    assert (
        defined["UbootBoot"]["properties"]["server"]["description"]
        == "the TFTP server's address; empty: the one from DHCP, or that of tftp_serve"
    )
    assert defined["Limits"]["properties"]["silence"]["description"].endswith("whether the kernel is alive")
    assert defined["QemuBoot"]["properties"]["cpus"]["description"].startswith("-smp; two or more")
    assert "description" in defined["Board"]["properties"]["kconfigs"]
    assert "description" in defined["AnyBoot"]["properties"]["uboot_seconds"]


def test_a_number_that_is_missing_outside_is_told_when_the_board_is_used() -> None:
    boards = parse_boards(LAB.partition("  b:")[0] + "  c: {boot: {method: qemu, memory_mib: '${M}'}}", place="f")
    assert boards["a"].unset[0] == "console.host: ${RACK} has no value"
    assert [reason.partition(":")[0] for reason in boards["c"].unset] == ["boot.memory_mib"]


def test_a_number_that_is_none_is_told_with_its_place() -> None:
    with pytest.raises(UserError, match=r"f: boards\.c\.boot\.cpus: expected an integer, found 'many'"):
        parse_boards("boards: {c: {boot: {method: qemu, cpus: '${CPUS}'}}}", place="f", lookup=lambda _: "many")
    with pytest.raises(UserError, match=r"f: boards\.c\.boot\.cpus: expected an integer, found '2'"):
        parse_boards("boards: {c: {boot: {method: qemu, cpus: '2'}}}", place="f")
