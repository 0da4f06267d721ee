"""Imports go down only, and each foreign library has one door (docs/architecture.md)."""

from __future__ import annotations

import ast
import graphlib
from pathlib import Path

import pytest

from harness.target.methods import table

PACKAGE = Path(__file__).resolve().parents[2] / "harness"

# What each room may import besides itself. errors, limits, clock, and those of _HOST stand at the bottom.
# what rooms need that do I/O
_HOST = {"shortage", "tied", "available", "lockfile", "products", "jsonfile", "interruption", "userpath"}
ALLOWED = {
    "errors": set(),
    "limits": {"errors"},
    "layout": set(),
    "tied": set(),
    "available": set(),
    "products": {"model", "errors"},
    "jsonfile": {"errors", "limits", "parse"},
    "lockfile": {"errors", "shortage"},
    "shortage": {"errors"},
    "clock": set(),
    "interruption": set(),
    "userpath": {"errors"},
    "model": {"errors"},
    "parse": {"model", "errors", "limits"},
    "report": {"model", "errors", "parse"},
    "build": {"model", "errors", "limits", "parse", "report", *_HOST},
    "target": {"model", "errors", "limits", "parse", "report", *_HOST},
    "run": {"model", "errors", "limits", "parse", "report", "build", "target", "layout", "clock", *_HOST},
    "display": {"model", "errors", "report", "shortage"},
    "boards": {"model", "errors", "limits", "parse", "build", "target", "layout", *_HOST},
    "store": {"model", "errors", *_HOST},
    "publish": {"model", "errors", "limits", "parse", "report", *_HOST},
    "campaign": {
        "model",
        "errors",
        "limits",
        "parse",
        "report",
        "build",
        "target",
        "run",
        "store",
        "publish",
        "layout",
        "clock",
        "boards",
        *_HOST,
    },
    "web": {"model", "errors", "report", "store", "campaign", *_HOST},
    "cli": {
        "model",
        "errors",
        "report",
        "build",
        "target",
        "run",
        "store",
        "campaign",
        "web",
        "layout",
        "display",
        "boards",
        *_HOST,
    },
    "__main__": {"cli"},
    "__init__": set(),
}
# The same within target/, whose rooms stand on each other in this order.
WITHIN_TARGET = {
    "line": set(),
    "base": {"line"},
    "power": {"line"},
    "shells": {"line", "base"},
    "holding": {"line", "base", "power"},
    "serving": {"base", "holding"},
    "methods": {"line", "base", "power", "shells", "holding", "serving"},
}
DOORS = {
    "pexpect": {"target/line/console.py"},
    "paramiko": {"target/shells/ssh.py"},
    "elftools": {"parse/elf.py", "parse/dwarf.py"},
    "yaml": {"parse/document.py"},
    "pydantic": {
        "parse/document.py",
        "parse/board_shapes.py",
        "parse/boot_shapes.py",
        "parse/plan_shapes.py",
        "parse/shape_types.py",
    },
    "junit_xml": {"report/junit.py"},
    "jinja2": {"report/page.py", "web/html.py"},
    "markupsafe": {"web/plots.py"},
    "svg": {"web/plots.py"},
    "werkzeug": {"web/app.py"},
    "waitress": {"web/server.py"},
    "serial": {"target/line/serialport.py"},
    "labgrid": {"target/holding/labgridclient.py"},
    "distributed": {"campaign/lab/engine.py"},
    "dask": {"campaign/lab/engine.py"},
    "grpc": {"target/holding/labgridclient.py"},
    "platformdirs": {"build/cache.py", "store/database.py", "campaign/publishing.py"},
    "sqlite3": {"store/"},
    "smtplib": {"publish/smtp.py"},
    "rich": {"display.py"},
    "click": {"cli/"},
}
# Who may know one boot method from another: the room that has the methods, and their shapes in boards.yaml.
KNOWS_METHODS = ("target/methods/", "parse/boot_shapes.py", "model/boot.py")
MODULES = sorted(PACKAGE.rglob("*.py"))
BOOT_TYPES = {method.__name__ for method in table._METHODS}


def _imports(path: Path) -> set[str]:
    """The absolute names of everything that a module imports."""
    names: set[str] = set()
    package = ["harness", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            names |= {f"{stem}.{alias.name}" for alias in node.names}
    return names


def _room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down_and_through_doors(path: Path) -> None:
    room = _room(path)
    place = str(path.relative_to(PACKAGE))
    for name in _imports(path):
        top, _, rest = name.partition(".")
        if top == "harness":
            imported = rest.partition(".")[0]
            ours = {entry.name.removesuffix(".py") for entry in PACKAGE.iterdir()}
            if imported in ours - {room}:
                assert imported in ALLOWED[room], f"{place} imports {name}"
        if top == "pytest":
            assert room == "run", f"{place} imports pytest"
        if top in DOORS:
            assert place.startswith(tuple(DOORS[top])), f"{place} imports {top}; its door is {DOORS[top]}"


@pytest.mark.parametrize(
    "path",
    [path for path in MODULES if _room(path) == "target" and path.parent.name + path.stem != "target__init__"],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_the_rooms_of_target_stand_on_each_other(path: Path) -> None:
    inner = path.relative_to(PACKAGE / "target").parts[0].removesuffix(".py")
    for name in _imports(path):
        if name.startswith("harness.target."):
            imported = name.split(".")[2]
            assert imported in WITHIN_TARGET[inner] | {inner}, f"{path.relative_to(PACKAGE)} imports {name}"


def test_the_parts_of_run_stand_on_each_other() -> None:
    """Modules and rooms of run/, which are more than a table could order: there is no circle, and what judges does
    nothing else."""
    parts: dict[str, set[str]] = {}
    for path in MODULES:
        if _room(path) == "run" and path != PACKAGE / "run/__init__.py":
            part = path.relative_to(PACKAGE / "run").parts[0].removesuffix(".py")
            imported = {name.split(".")[2] for name in _imports(path) if name.startswith("harness.run.")}
            parts.setdefault(part, set()).update(imported - {part})
    assert {"machine", "runner", "suites", "workers"} <= parts.keys()
    list(graphlib.TopologicalSorter(parts).static_order())  # CycleError names the circle
    assert parts["judging"] == {"stopped"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nobody_else_asks_which_boot_method_a_board_has(path: Path) -> None:
    place = str(path.relative_to(PACKAGE))
    known = {name for name in _names(path) if name in BOOT_TYPES}
    assert place.startswith(KNOWS_METHODS) or not known, f"{place} knows {known}; docs/architecture.md, Boot methods"


def _names(path: Path) -> set[str]:
    """Names that a module imports or uses."""
    tree = list(ast.walk(ast.parse(path.read_text())))
    used = {node.id for node in tree if isinstance(node, ast.Name)}
    return used | {node.attr for node in tree if isinstance(node, ast.Attribute)}


# Who may write to a terminal: those that free the text from control characters first, the console of a person, which is
# meant to have them, a process that talks to us through a pipe, and a module that prints its own table for docs/.
WRITES = {"cli/output.py", "display.py", "target/shells/interactive.py", "target/holding/labgrid.py", "limits.py"}


def _writes(node: ast.AST) -> bool:
    """Whether `node` is a call that writes to a terminal."""
    if not isinstance(node, ast.Call):
        return False
    called = ast.unparse(node.func)
    if called.startswith(("sys.stdout.", "sys.stderr.")):
        return "write" in called
    return called in ("print", "click.echo", "click.secho")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_text_gets_to_the_terminal_through_one_door(path: Path) -> None:
    place = str(path.relative_to(PACKAGE))
    found = [node for node in ast.walk(ast.parse(path.read_text())) if _writes(node)]
    assert place in WRITES or not found, f"{place} prints; harness/cli/output.py and harness/display.py do that"
