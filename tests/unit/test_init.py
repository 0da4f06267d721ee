"""`harness init`: what it lays out is right, and nothing that is there is touched."""

from __future__ import annotations

import errno
import re
from pathlib import Path

import click.testing
import pytest

from harness.cli import init as verb
from harness.cli.main import cli
from harness.errors import HarnessError, InfraError, UserError
from harness.layout import SKELETON
from harness.model.boot import QemuBoot, UbootBoot
from harness.parse.boards import parse_boards
from harness.parse.kconfig import parse_fragment


def init(directory: Path) -> str:
    """What it prints; its own exceptions are raised."""
    done = click.testing.CliRunner().invoke(
        cli, ["init", str(directory)], catch_exceptions=False, standalone_mode=False
    )
    if done.exception:
        raise done.exception
    return done.output


def files(directory: Path) -> dict[str, str]:
    return {str(path.relative_to(directory)): path.read_text() for path in directory.rglob("*") if path.is_file()}


def test_what_is_laid_out_is_named_and_what_comes_next(tmp_path: Path) -> None:
    told = init(tmp_path / "my lab")
    made = files(tmp_path / "my lab")
    assert sorted(made) == [".gitignore", "Jenkinsfile", "boards.yaml", "kconfigs/example.config"]
    assert told.splitlines()[:4] == [str(tmp_path / "my lab" / name) for name in verb.FILES]
    assert f"cd '{tmp_path}/my lab'" in told
    assert 'export HARNESS_BOARDS="$PWD/boards.yaml"' in told


def test_every_file_of_the_skeleton_is_laid_out() -> None:
    assert sorted(verb.FILES.values()) == sorted(files(SKELETON))


def test_verbs_and_options_that_are_named_exist(tmp_path: Path) -> None:
    told = init(tmp_path) + "".join(files(tmp_path).values())
    lines = re.findall(r"harness ((?:[a-z]+)(?: (?:-{1,2}[a-z]+))*)", told)
    assert {"run --kconfig", "run --out", "boards --schema", "doctor"} <= set(lines)
    for line in lines:
        name, *options = line.split()
        known = {option for parameter in cli.commands[name].params for option in parameter.opts}
        assert set(options) <= known


def test_the_boards_are_right_also_when_the_example_is_uncommented() -> None:
    text = (SKELETON / "boards.yaml").read_text()
    [entry] = parse_boards(text, place="boards.yaml", lookup=str).values()
    board = entry.board
    assert board.name == "qemu-virt"
    assert isinstance(board.boot, QemuBoot)
    example = re.sub(r"^  # (?=  |my-board)", "  ", text, flags=re.MULTILINE)
    board = parse_boards(example, place="boards.yaml", lookup=str)["my-board"].board
    assert isinstance(board.boot, UbootBoot)
    assert board.boot.dtb == "my-board.dtb"


def test_the_fragment_is_one_also_when_the_wish_is_uncommented() -> None:
    text = (SKELETON / "kconfigs/example.config").read_text()
    assert [request.symbol for request in parse_fragment(text, name="f").requests] == ["DEBUG_ATOMIC_SLEEP"]
    wish = text.replace("# CONFIG_", "CONFIG_")
    assert "SAMPLE_FPROBE" in [request.symbol for request in parse_fragment(wish, name="f").requests]


@pytest.mark.parametrize("name", verb.FILES)
def test_what_is_there_is_left_alone_and_nothing_else_is_written(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    with pytest.raises(UserError, match=f"^{re.escape(str(path))}: already exists"):
        init(tmp_path)
    assert files(tmp_path) == {name: "mine"}


def test_a_link_that_leads_nowhere_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "boards.yaml").symlink_to("elsewhere.yaml")
    with pytest.raises(UserError, match=r"boards\.yaml: already exists"):
        init(tmp_path)
    assert not (tmp_path / "elsewhere.yaml").exists()


def test_a_file_that_comes_meanwhile_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def somebody_writes(_text: object) -> None:
        (tmp_path / "Jenkinsfile").write_text("theirs")

    monkeypatch.setattr(verb, "tell", somebody_writes)
    with pytest.raises(UserError, match=r"Jenkinsfile: expected to create a new file, can't: File exists"):
        init(tmp_path)
    assert (tmp_path / "Jenkinsfile").read_text() == "theirs"


def test_a_file_in_place_of_the_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match=r"file/boards\.yaml: expected to create a new file, can't"):
        init(tmp_path / "file")


@pytest.mark.parametrize(
    ("code", "kind"), [(errno.EACCES, UserError), (errno.EROFS, UserError), (errno.ENOSPC, InfraError)]
)
def test_whose_fault_it_is_that_nothing_can_be_written(
    code: int, kind: type[UserError] | type[InfraError], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: Path, *_args: object, **_more: object) -> None:
        raise OSError(code, "why", str(self))

    monkeypatch.setattr(Path, "mkdir", fails)
    with pytest.raises(HarnessError, match=r"boards\.yaml: expected to create a new file, can't: why") as told:
        init(tmp_path / "new")
    assert type(told.value) is kind
