"""The code that a series has changed, and the probe with which QEMU notes which of it runs."""

from __future__ import annotations

import re
import shutil
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path, PurePosixPath

from harness.build import command
from harness.build.changedlines import changed_lines
from harness.errors import InfraError, UserError
from harness.limits import INSPECT_SECONDS, LINE_CODE, Deadline
from harness.model.coverage import ChangedCode, CodeLine, Probe, Ranges
from harness.model.kernel import Build
from harness.parse.dwarf import LineCode
from harness.parse.elf import FUNC, Elf

_CODE = {".c", ".h", ".S"}  # suffixes of files that become code
_ONCE = re.compile(r"\.(head|init|exit)\.text|\.idmap\.text|\.rodata\.text")  # sections that run before the first test
_BYTES = 4  # of an instruction
_LIMIT_S = 60.0


def changed_code(build: Build) -> ChangedCode:
    """Return the code of a build that its patches have changed. For a header the whole debug information is read, which
    takes half a minute. Raises UserError if it is not known what was changed, or if there is no debug information."""
    changed = {path: ranges for path, ranges in changed_lines(build.directory).items() if _becomes_code(path)}
    if not changed:
        return ChangedCode(lines=())
    file = build.directory / "vmlinux"
    try:
        stream = file.open("rb")
    except OSError as error:
        raise UserError(f"{file}: expected the kernel with debug information, found: {error.strerror}") from None
    with stream:
        elf = Elf(stream, name=str(file))
        found = elf.lines_of(changed.keys(), deadline=Deadline.start(INSPECT_SECONDS))
        if found is None:
            raise UserError(f"{file}: expected debug information (CONFIG_DEBUG_INFO), found none")
        return _code(elf, found, changed)


def make_probe(code: ChangedCode, directory: Path) -> Probe:
    """Compile the plugin for the QEMU of this host into `directory`; the probe's table is still to be written. Raises
    InfraError."""
    plugin = directory / "coverage.so"
    compiler = shutil.which("gcc") or "cc"
    source = resources.files("harness.build") / "overlay" / "coverage.c"
    with resources.as_file(source) as path:
        words = [compiler, "-shared", "-fPIC", "-O2", "-fvisibility=hidden", f"-DPLUGIN_API={_plugin_api()}"]
        done = command.run([*words, "-o", plugin, path], timeout=_LIMIT_S)
    if done.status:
        raise InfraError(f"coverage.c: {compiler} ended with exit code {done.status}", details=done.last_lines())
    return Probe(plugin=plugin, table=directory / "coverage.table", count=len(code.addresses))


def _plugin_api() -> int:
    """The version of QEMU's interface for plugins that it takes: 8.2 and later no longer take the first one."""
    told = command.run(["qemu-system-aarch64", "--version"], timeout=_LIMIT_S).stdout
    version = re.search(r"version (\d+)\.(\d+)", told)
    return 2 if version and (int(version[1]), int(version[2])) >= (8, 2) else 1


def _becomes_code(path: str) -> bool:
    return PurePosixPath(path).suffix in _CODE and not path.startswith(("Documentation/", "tools/", "scripts/"))


def _code(elf: Elf, found: Iterable[LineCode], changed: Mapping[str, Ranges]) -> ChangedCode:
    functions = _Functions(elf)
    addresses: dict[tuple[str, int], set[int]] = {}
    seen = set()
    left = LINE_CODE.value
    not_known: dict[str, str] = {}
    for each in found:
        seen.add(each.path)
        if not any(first <= each.line <= last for first, last in changed[each.path]):
            continue
        if functions.runs_once(each.begin):
            not_known[f"{each.path}: {functions.name(each.begin)}"] = "it runs only while the kernel boots"
        else:
            left -= (each.end - each.begin) // _BYTES
            if left < 0:
                raise LINE_CODE.exceeded(place=elf.name)
            addresses.setdefault((each.path, each.line), set()).update(range(each.begin, each.end, _BYTES))
    for path in changed:
        if path not in seen:
            not_known[path] = "vmlinux has no code of it: it belongs to modules, or is not built"
    lines = tuple(
        CodeLine(path=path, line=line, function=functions.name(min(places)), addresses=tuple(sorted(places)))
        for (path, line), places in sorted(addresses.items())
    )
    return ChangedCode(lines=lines, text=next(iter(elf.addresses_of("_text")), 0), not_known=not_known)


class _Functions:
    """The functions of a kernel, and which of them run before the first test."""

    def __init__(self, elf: Elf) -> None:
        found = sorted((each.address, each.name) for each in elf.symbols if each.kind == FUNC and each.section)
        self._begins = [address for address, _ in found]
        self._names = [name for _, name in found]
        self._once = [(each.address, each.address + each.size) for each in elf.sections if _ONCE.fullmatch(each.name)]

    def name(self, address: int) -> str:
        """The function with the code at `address`; empty if there is none."""
        place = bisect_right(self._begins, address) - 1
        return self._names[place] if place >= 0 else ""

    def runs_once(self, address: int) -> bool:
        return any(begin <= address < end for begin, end in self._once)
