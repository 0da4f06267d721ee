"""Merges fragments into a final ``.config`` and verifies that every requested symbol is in it; explains each one that
is not."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.build.command import run
from harness.build.confinement import Confinement, give
from harness.build.toolchain import PATCHABLE, require_patchable
from harness.build.tree import makefile_version
from harness.errors import BuildError, InfraError, UserError
from harness.model.kernel import Toolchain
from harness.model.suite import UPSTREAM
from harness.parse.kconfig import Fragment, Request, merge, parse_dotconfig, parse_fragment, render, unsatisfied
from harness.parse.kconfig_deps import Explainer, Explanation, explainer
from harness.parse.kconfig_lang import parse_kconfig

MAKE_TIMEOUT_S = 600
"""Seconds for one ``make *config``: it takes three, and a minute on a loaded machine that builds conf first."""

_WITH_REGS = ("DYNAMIC_FTRACE_WITH_", "HAVE_DYNAMIC_FTRACE_WITH_")
_MEDDLING = frozenset({"ARCH", "CROSS_COMPILE", "LLVM", "LLVM_IAS", "MAKEFLAGS", "MFLAGS", "MAKELEVEL", "O"})
_TOO_OLD = re.compile(r"Sorry, this .* is not supported")
_LAST_LINES = 20
_MAX_NAMED = 6


@dataclass(frozen=True, kw_only=True)
class Configured:
    """`config`: symbol to value for every symbol set. `without`: wished symbols that this kernel can't have, each with
    the reason. `given_up`: those among them that were sacrificed to a demand. `changed`: whether
    ``.config`` was written."""

    config: dict[str, str]
    without: dict[str, str] = field(default_factory=dict)
    given_up: tuple[str, ...] = ()
    changed: bool = True


def configure(
    *,
    tree: Path,
    objdir: Path,
    fragments: Sequence[Path],
    user_fragments: Sequence[Path] = (),
    selftest_configs: bool = True,
    toolchain: Toolchain,
    allow_plain_ftrace: bool = False,
    confinement: Confinement | None = None,
) -> Configured:
    """Write ``objdir/.config`` for `tree` and verify it.

    Merged in this order, the later winning: `fragments`, the config files of the tree's selftests (as wishes),
    `user_fragments`. A wish that conflicts with a demand is given up. An unchanged configuration leaves ``.config``
    untouched, so that kbuild rebuilds nothing. `confinement`: what make runs in. Raises UserError if a fragment can't
    be read or a demanded symbol is not in the result; BuildError if the kernel's own Kconfig files are broken."""
    require_patchable(toolchain, allow_plain_ftrace=allow_plain_ftrace)
    requests = _gather(tree, fragments, user_fragments, selftest_configs=selftest_configs)
    objdir.mkdir(parents=True, exist_ok=True)
    text = _final_text(tree=tree, objdir=objdir, request=render(requests), toolchain=toolchain, confinement=confinement)
    config = parse_dotconfig(text)
    without, given_up = _judge(tree, requests, config, toolchain=toolchain, allow_plain_ftrace=allow_plain_ftrace)
    changed = _publish(text, objdir / ".config")
    return Configured(config=config, without=without, given_up=given_up, changed=changed)


def _gather(
    tree: Path, fragments: Sequence[Path], user_fragments: Sequence[Path], *, selftest_configs: bool
) -> dict[str, Request]:
    parsed = [_read_fragment(path, name=_shown(path)) for path in fragments]
    if selftest_configs:
        for suite in UPSTREAM:
            path = tree / "tools/testing" / suite.name / "config"
            if path.exists():
                wish = f"{suite.name} asks for it"
                parsed.append(_read_fragment(path, name=str(path.relative_to(tree)), if_available=wish))
    parsed += [_read_fragment(path, name=_shown(path)) for path in user_fragments]
    return merge(parsed, version=_version(tree))


def _version(tree: Path) -> tuple[int, int] | None:
    with contextlib.suppress(OSError):
        found = re.match(r"(\d+)\.(\d+)", makefile_version((tree / "Makefile").read_text(errors="replace")) or "")
        return (int(found[1]), int(found[2])) if found else None
    return None


def _read_fragment(path: Path, *, name: str, if_available: str | None = None) -> Fragment:
    try:
        text = _read(path)
    except OSError as error:
        raise UserError(f"{name}: expected a kconfig fragment, found: {error.strerror}") from error
    return parse_fragment(text, name=name, if_available=if_available)


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
        text = _read(draft)
        if text != _text_of(objdir / ".config"):
            _run_make([*make, "olddefconfig"], toolchain, confinement)
            text = _read(draft)
        return text


def _publish(text: str, dotconfig: Path) -> bool:
    """Write `dotconfig` if it differs, and return whether it did. kbuild goes by file times, so an equal one stays
    untouched, and a new one is written now: it has to be younger than what allnoconfig left in include/config."""
    if text == _text_of(dotconfig):
        return False
    draft = dotconfig.with_name(".config.partial")
    draft.unlink(missing_ok=True)  # if a build left a link there, this would write through it
    draft.write_text(text)
    draft.replace(dotconfig)
    return True


def _read(path: Path) -> str:
    """With the line ends that it has: `Path.read_text` takes a lone CR, which a string may hold, for one."""
    return path.read_bytes().decode(errors="replace")


def _text_of(path: Path) -> str | None:
    try:
        return _read(path)
    except OSError:
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
        details=done.last_lines(_LAST_LINES),
    )


def _judge(
    tree: Path,
    requests: Mapping[str, Request],
    config: Mapping[str, str],
    *,
    toolchain: Toolchain,
    allow_plain_ftrace: bool,
) -> tuple[dict[str, str], tuple[str, ...]]:
    """The reasons for what may be missing, and which of that was given up for what is demanded; UserError with all
    that may not be missing."""
    missing = unsatisfied(requests, config)
    if not missing:
        return {}, ()
    explaining = explainer(parse_kconfig(lambda path: _text_of(tree / path)), config)
    without: dict[str, str] = {}
    given_up: list[str] = []
    refused: list[tuple[Request, str]] = []
    for request in missing:
        explanation = explaining.explain(request.symbol, wanted=request.value)
        reason = explanation.sentence
        rivals = [] if explanation.is_impossible else _rivals(request, requests, missing, explaining)
        reason += "".join(f"; {rival.place} asks for CONFIG_{rival.symbol}={rival.value}" for rival in rivals)
        plain = not toolchain.patchable and _hangs_on_regs(explanation)
        if plain:
            reason += f"; {toolchain.command} {toolchain.version} has no {PATCHABLE}"
        if request.if_available and rivals and not any(rival.if_available for rival in rivals):
            given_up.append(request.symbol)
            without[request.symbol] = reason
        elif (request.if_available and explanation.is_impossible) or (plain and allow_plain_ftrace):
            without[request.symbol] = reason
        else:
            refused.append((request, reason))
    if refused:
        raise _refusal(refused, config)
    return without, tuple(given_up)


def _rivals(
    request: Request, requests: Mapping[str, Request], missing: Sequence[Request], explaining: Explainer
) -> list[Request]:
    """Return the satisfied requests that conflict with this one; only demands, if those suffice to explain it."""
    met = [other for other in requests.values() if other not in missing]
    for among in ([other.symbol for other in met if not other.if_available], [other.symbol for other in met]):
        if names := explaining.ruled_out_by(request.symbol, wanted=request.value, among=among):
            return [requests[name] for name in names]
    return []


def _hangs_on_regs(explanation: Explanation) -> bool:
    names = {explanation.symbol, *explanation.blockers}
    return explanation.by_toolchain and any(name.startswith(_WITH_REGS) for name in names)


def _refusal(refused: Sequence[tuple[Request, str]], config: Mapping[str, str]) -> UserError:
    names = ", ".join(request.symbol for request, _ in refused[:_MAX_NAMED])
    if len(refused) > _MAX_NAMED:
        names += f" and {len(refused) - _MAX_NAMED} more"
    noun = "1 requested symbol is" if len(refused) == 1 else f"{len(refused)} requested symbols are"
    details = []
    for request, reason in refused:
        found = config.get(request.symbol)
        actual = "not set" if found is None else found or '""'
        wanted = f'"{request.value}"' if request.is_string else request.value
        details.append(f"{request.place}: CONFIG_{request.symbol}: expected {wanted}, found {actual}: {reason}")
    return UserError(f"kernel configuration: {noun} not in the final .config: {names}", details=details)
