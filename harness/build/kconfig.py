"""Merges fragments into a final ``.config`` and verifies that every requested symbol is in it; explains each one that
is not."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from harness.build.command import run
from harness.build.confinement import Confinement, give
from harness.build.era import Ask, asked_by
from harness.build.kconfig_verdict import Judge, implied_off
from harness.build.made import read_made
from harness.build.toolchain import require_patchable
from harness.build.tree import makefile_version, read_makefile
from harness.errors import BuildError, InfraError, UserError
from harness.limits import SOURCE_BYTES
from harness.model.kernel import Toolchain
from harness.model.suite import UPSTREAM
from harness.parse import make_log
from harness.parse.diff_names import leads_outside
from harness.parse.kconfig import Fragment, Request, is_met, merge, parse_dotconfig, parse_fragment, render
from harness.parse.kconfig_lang import parse_kconfig

MAKE_TIMEOUT_S = 600
"""Seconds for one ``make *config``: it takes three, and a minute on a loaded machine that builds conf first."""

_MEDDLING = frozenset({"ARCH", "CROSS_COMPILE", "LLVM", "LLVM_IAS", "MAKEFLAGS", "MFLAGS", "MAKELEVEL", "O"})
_TOO_OLD = re.compile(r"Sorry, this .* is not supported")


@dataclass(frozen=True, kw_only=True)
class Configured:
    """`config`: symbol to value for every symbol set. `without`: wished symbols that this kernel can't have, each with
    the reason. `given_up`: those among them that were sacrificed to a demand or to what the user chose. `changed`:
    whether ``.config`` was written. `era_fixes`: those that the tree needed, by name, each with its reason."""

    config: dict[str, str]
    without: dict[str, str] = field(default_factory=dict)
    given_up: tuple[str, ...] = ()
    changed: bool = True
    era_fixes: dict[str, str] = field(default_factory=dict)


def configure(
    *,
    tree: Path,
    objdir: Path,
    fragments: Sequence[Path],
    user_fragments: Sequence[Path] = (),
    fixes: Sequence[Ask] = (),
    selftest_configs: bool = True,
    toolchain: Toolchain,
    allow_plain_ftrace: bool = False,
    confinement: Confinement | None = None,
) -> Configured:
    """Write ``objdir/.config`` for `tree` and verify it.

    Merged in this order, the later winning: `fragments`, the config files of the tree's selftests (as wishes),
    what those `fixes` ask for that the tree needs, `user_fragments`. A wish that conflicts with a demand, or would undo
    one, or that the user's fragments take away, is given up; so is the member of a choice that is asked for in
    `fragments` where the user asks for another. An unchanged configuration leaves ``.config`` untouched, so that kbuild
    rebuilds nothing. `confinement`: what make runs in. Raises UserError if a fragment can't be read or a demanded
    symbol is not in the result; BuildError if the kernel's own Kconfig files are broken."""
    require_patchable(toolchain, allow_plain_ftrace=allow_plain_ftrace)
    needed = [fix for fix in fixes if fix.is_needed(lambda path: _kconfig_file(tree, path))]
    gather = functools.partial(_gather, tree, fragments, needed, selftest_configs=selftest_configs)
    asked, ours = gather(user_fragments), gather(())
    objdir.mkdir(parents=True, exist_ok=True)

    def made(requests: Mapping[str, Request]) -> str:
        request = render(requests)
        return _final_text(tree=tree, objdir=objdir, request=request, toolchain=toolchain, confinement=confinement)

    read_kconfig = functools.cache(lambda: parse_kconfig(lambda path: _kconfig_file(tree, path)))
    undoing: dict[str, Request] = {}
    while True:  # with some wishes fewer each time
        requests = asked | {wish: implied_off(wish, demand) for wish, demand in undoing.items()}
        text = made(requests)
        config = parse_dotconfig(text)
        judge = Judge(
            read_kconfig=read_kconfig,
            requests=requests,
            users=frozenset(symbol for symbol, request in asked.items() if request != ours.get(symbol)),
            config=config,
            undoing=undoing,
            toolchain=toolchain,
            allow_plain_ftrace=allow_plain_ftrace,
        )
        if not (more := judge.undoing_demands()):
            break
        undoing |= more
    without, given_up = judge.verdict(lambda: parse_dotconfig(made(ours)) if user_fragments else None)
    changed = _publish(text, objdir / ".config")
    done = {fix.name: fix.why for fix in needed if all(is_met(asked, config) for asked in asked_by(fix).requests)}
    return Configured(config=config, without=without, given_up=given_up, changed=changed, era_fixes=done)


def _gather(
    tree: Path,
    fragments: Sequence[Path],
    fixes: Sequence[Ask],
    user_fragments: Sequence[Path],
    *,
    selftest_configs: bool,
) -> dict[str, Request]:
    parsed = [_read_fragment(path, name=_shown(path)) for path in fragments]
    if selftest_configs:
        for suite in UPSTREAM:
            name = f"tools/testing/{suite.name}/config"
            if (text := _kconfig_file(tree, name)) is not None:
                parsed.append(parse_fragment(text, name=name, if_available=f"{suite.name} asks for it"))
    parsed += map(asked_by, fixes)
    parsed += [_read_fragment(path, name=_shown(path)) for path in user_fragments]
    return merge(parsed, version=_version(tree))


def _version(tree: Path) -> tuple[int, int] | None:
    with contextlib.suppress(OSError):
        found = re.match(r"(\d+)\.(\d+)", makefile_version(read_makefile(tree)) or "")
        return (int(found[1]), int(found[2])) if found else None
    return None


def _read_fragment(path: Path, *, name: str) -> Fragment:
    try:
        text = _read(path)
    except OSError as error:
        raise UserError(f"{name}: expected a kconfig fragment, found: {error.strerror}") from error
    return parse_fragment(text, name=name)


def _shown(path: Path) -> str:
    """Return the path as a person would write it: relative if it is below the current directory."""
    with contextlib.suppress(ValueError):
        return str(path.absolute().relative_to(Path.cwd()))
    return str(path)


def _final_text(
    *, tree: Path, objdir: Path, request: str, toolchain: Toolchain, confinement: Confinement | None
) -> str:
    """The ``.config`` that kbuild makes of `request`, worked out beside ``objdir/.config``.

    olddefconfig settles what allnoconfig leaves open. Its result is its own fixed point, so where allnoconfig
    arrives at what is there already there is nothing left to settle.
    """
    with tempfile.TemporaryDirectory(dir=objdir, prefix=".kconfig-") as scratch_name:
        scratch = Path(scratch_name).absolute()
        allconfig, draft = scratch / "request.config", scratch / "draft.config"
        allconfig.write_text(request)
        if confinement is not None and confinement.owner is not None:
            give(scratch, confinement.owner)
        make = ["make", "-C", str(tree), f"O={objdir.absolute()}", "ARCH=arm64", *toolchain.make_args]
        make.append(f"KCONFIG_CONFIG={draft}")
        _run_make([*make, f"KCONFIG_ALLCONFIG={allconfig}", "allnoconfig"], toolchain, confinement)
        text = _made(draft)
        if text != _standing(objdir / ".config"):
            _run_make([*make, "olddefconfig"], toolchain, confinement)
            text = _made(draft)
        return text


def _publish(text: str, dotconfig: Path) -> bool:
    """Write `dotconfig` if it differs, and return whether it did. kbuild goes by file times, so an equal one stays
    untouched, and a new one is written now: it has to be younger than what allnoconfig left in include/config."""
    if text == _standing(dotconfig):
        return False
    draft = dotconfig.with_name(".config.partial")
    draft.unlink(missing_ok=True)  # if a build left a link there, this would write through it
    draft.write_text(text)
    draft.replace(dotconfig)
    return True


def _read(path: Path) -> str:
    """With the line ends that it has: `Path.read_text` takes a lone CR, which a string may hold, for one."""
    return SOURCE_BYTES.read(path).decode(errors="replace")


def _made(draft: Path) -> str:
    return read_made(draft, SOURCE_BYTES).decode(errors="replace")


def _standing(dotconfig: Path) -> str | None:
    """Return what an earlier build left; None if that is no configuration, and is to be replaced."""
    try:
        return _made(dotconfig)
    except BuildError:
        return None


def _kconfig_file(tree: Path, path: str) -> str | None:
    """Return the text of a file of the tree; None if there is no such file, or if it is outside: what others write in
    a Kconfig file must not make us read this host's files."""
    try:
        if leads_outside(str(PurePosixPath(path))) or not (tree / path).resolve().is_relative_to(tree.resolve()):
            return None
        return _read(tree / path)
    except (OSError, RuntimeError, ValueError):  # among them a circle of links, and a name that no file can have
        return None


def _run_make(make: Sequence[str], toolchain: Toolchain, confinement: Confinement | None) -> None:
    # Variables that kbuild would take from the caller's environment; ours are arguments in `make`.
    meddling = {name: "" for name in os.environ if name in _MEDDLING or name.startswith("KBUILD_")}
    done = run(make, timeout=MAKE_TIMEOUT_S, env=meddling, confinement=confinement)
    if done.status == 0:
        return
    for tool in ("flex", "bison"):
        if shutil.which(tool) is None:
            raise InfraError(f"make {make[-1]}: needs {tool}; install Debian's package {tool}")
    if any(_TOO_OLD.search(line) for line in done.stderr.splitlines()):
        raise UserError(
            f"{toolchain.command} {toolchain.version}: expected a toolchain that this kernel supports, "
            "found that it refuses this one; name another with --toolchain",
            details=[line for line in done.stderr.splitlines() if "***" in line and "make" not in line],
        )
    raise BuildError(
        f"make {make[-1]}: expected a configuration, found exit status {done.status}",
        details=make_log.errors(done.stderr.splitlines()),
    )
