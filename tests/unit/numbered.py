"""A source tree whose files are numbered lines, and patches for it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from harness.model.kernel import Patch

LINES = [f"line {n}" for n in range(1, 31)]
OLD = 1_000_000_000_000_000_000
NO_EOL = "\\ No newline at end of file"


def patch(text: str, *, name: str = "0001-x.patch") -> Patch:
    return Patch(name=name, text=text, sha256=hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest())


def change(path: str, at: int, new: str, *, name: str = "0001-x.patch", base: list[str] = LINES) -> Patch:
    """Replace line `at` (from 1) of a file of numbered lines."""
    body = "".join(f" {line}\n" for line in base[at - 2 : at - 1])
    body += f"-{base[at - 1]}\n+{new}\n" + "".join(f" {line}\n" for line in base[at : at + 1])
    return patch(f"--- a/{path}\n+++ b/{path}\n@@ -{at - 1},3 +{at - 1},3 @@\n{body}", name=name)


def create(path: str, line: str, *, mode: str = "100644") -> Patch:
    head = f"diff --git a/{path} b/{path}\nnew file mode {mode}\n--- /dev/null\n+++ b/{path}\n"
    return patch(f"{head}@@ -0,0 +1 @@\n+{line}\n")


def git(path: str, *lines: str) -> Patch:
    return patch("\n".join([f"diff --git a/{path} b/{path}", *lines, ""]))


def link(path: str, target: str, *, name: str = "0001-x.patch") -> Patch:
    """Make a symbolic link."""
    head = f"diff --git a/{path} b/{path}\nnew file mode 120000\nindex 0000000..1234567\n--- /dev/null\n+++ b/{path}\n"
    return patch(f"{head}@@ -0,0 +1 @@\n+{target}\n{NO_EOL}\n", name=name)


def turn(path: str, old: str, new: str) -> Patch:
    """Make a symbolic link lead elsewhere."""
    head = (f"index 1111111..2222222 120000\n--- a/{path}\n+++ b/{path}", "@@ -1 +1 @@")
    return git(path, *head, f"-{old}", NO_EOL, f"+{new}", NO_EOL)


def unlink(path: str, target: str) -> Patch:
    head = (f"deleted file mode 120000\nindex 1111111..0000000\n--- a/{path}\n+++ /dev/null", "@@ -1 +0,0 @@")
    return git(path, *head, f"-{target}", NO_EOL)


def make_numbered(tree: Path) -> Path:
    """Two files of numbered lines, an executable, all with an old mtime."""
    (tree / "kernel").mkdir(parents=True)
    for name in ("kernel/a.c", "kernel/b.c", "run.sh"):
        (tree / name).write_text("".join(f"{line}\n" for line in LINES))
        os.utime(tree / name, ns=(OLD, OLD))
    (tree / "run.sh").chmod(0o755)
    return tree


def files(tree: Path) -> dict[str, tuple[bytes, int]]:
    """Every file's content and mode; of a symbolic link ``-> target``."""
    found = (path for path in tree.rglob("*") if path.is_symlink() or path.is_file())
    return {str(path.relative_to(tree)): _form(path) for path in found}


def _form(path: Path) -> tuple[bytes, int]:
    if path.is_symlink():
        return b"-> " + os.readlink(os.fsencode(path)), 0o777  # noqa: PTH115 (as it stands there)
    return path.read_bytes(), path.stat().st_mode & 0o777


def times(tree: Path) -> dict[str, int]:
    found = (path for path in tree.rglob("*") if path.is_symlink() or path.is_file())
    return {str(path.relative_to(tree)): path.lstat().st_mtime_ns for path in found}
