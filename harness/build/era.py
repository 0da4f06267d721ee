"""Era fixes: what kernels of a certain age need to be built by the compilers and host tools of today.

Each is small, has a name, and says which trees need it, which is seen in the tree itself; kernels younger than its
`until` are not looked at. Fixes are applied to the harness's copy of the source, after the patches; they are part of
what names a build, and shown in its record and in the results of its runs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from harness.errors import UserError
from harness.model.kernel import KernelSpec
from harness.parse.kconfig import Fragment, parse_fragment

HOW_TO_LEAVE_OUT = "--no-era-fixes leaves out all of them"
Read = Callable[[str], str | None]
"""Returns the text of a file of the tree; None if there is none."""


@dataclass(frozen=True, kw_only=True)
class EraFix:
    """A fix. `why`: what happens without it, for results. `until`: the youngest kernel that may need it. `file`: the
    file by which a tree shows whether it does: `symptom` is found in it."""

    name: str
    why: str = field(repr=False)
    until: tuple[int, int]
    file: str
    symptom: re.Pattern[str]

    def is_needed(self, read: Read) -> bool:
        """Return whether the tree that `read` reads needs this fix."""
        return self.symptom.search(read(self.file) or "") is not None


@dataclass(frozen=True, kw_only=True)
class Edit(EraFix):
    """A fix that changes `file`: what `old` matches becomes `new`, wherever that is."""

    old: re.Pattern[str]
    new: str

    def applied(self, text: str) -> str:
        """Return the changed text of `file`. Raises UserError if `symptom` would still be found."""
        changed = self.old.sub(lambda match: match.expand(self.new), text)
        if changed == text or self.symptom.search(changed):
            raise UserError(
                f"era fix {self.name}: {self.file}: expected the place that it changes ({self.old.pattern!r}), found "
                f"another form of it: this tree needs another fix; {HOW_TO_LEAVE_OUT}"
            )
        return changed


@dataclass(frozen=True, kw_only=True)
class Ask(EraFix):
    """A fix that asks for a configuration: `asks` is a line of a fragment, which the user's fragments override."""

    asks: str


ERA_FIXES: tuple[Edit | Ask, ...] = (
    Edit(
        name="dtc-yylloc",
        why="dtc defines yylloc twice, which host compilers refuse since gcc 10 (-fno-common)",
        until=(5, 6),
        file="scripts/dtc/dtc-lexer.l",
        symptom=re.compile(r"^YYLTYPE\s+yylloc\b", re.MULTILINE),
        old=re.compile(r"^YYLTYPE\s+yylloc\s*;(?:[ \t]*\r?\n)?", re.MULTILINE),
        new="",
    ),
    Edit(
        name="optimize-O2",
        why="its Makefile compiles the kernel with -O0, at which calls that are never reached are left for the linker",
        until=(5, 4),
        file="Makefile",
        symptom=re.compile(r"^KBUILD_CFLAGS\s*\+=\s*-O0\s*$", re.MULTILINE),
        old=re.compile(r"^(KBUILD_CFLAGS\s*\+=\s*)-O0(?=\s*$)", re.MULTILINE),
        new=r"\1-O2",
    ),
    Ask(
        name="section-mismatch-warns",
        why="compilers of today may inline and clone functions in ways that its section annotations do not expect; "
        "modpost then warns, which is this symbol's own default, instead of stopping the build",
        until=(5, 4),
        file="lib/Kconfig.debug",
        symptom=re.compile(r"^config SECTION_MISMATCH_WARN_ONLY$", re.MULTILINE),
        asks="CONFIG_SECTION_MISMATCH_WARN_ONLY=y",
    ),
)


def fixes_for(spec: KernelSpec) -> tuple[Edit | Ask, ...]:
    """Return the fixes that the source of `spec` may need by its age; none if they were ruled out."""
    if not spec.era_fixes:
        return ()
    found = re.search(r"(\d+)\.(\d+)", spec.source.version)
    version = (int(found[1]), int(found[2])) if found else (0, 0)
    return tuple(fix for fix in ERA_FIXES if version <= fix.until)


def fingerprint(fixes: Sequence[EraFix]) -> str:
    """Return a hash of what these fixes do, empty for none."""
    return hashlib.sha256(repr(fixes).encode()).hexdigest()[:16] if fixes else ""


def asked_by(fix: Ask) -> Fragment:
    """Return what the fix asks for as a fragment, which messages name after it."""
    return parse_fragment(fix.asks, name=f"era fix {fix.name}")
