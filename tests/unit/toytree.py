"""A kernel tree small enough to be packed, copied and committed in milliseconds, and a Progress that remembers."""

from __future__ import annotations

import subprocess
from pathlib import Path

TOY_TIME = 1_500_000_000


class Recorder:
    """A Progress that keeps what it was told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.advanced: list[tuple[str, float, float | None]] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def advance(self, label: str, done: float, total: float | None) -> None:
        self.advanced.append((label, done, total))


def make_tree(path: Path, *, sublevel: str = "4", extra: str = "", **files: str) -> Path:
    """A toy kernel 7.3 at `path`; `files` are further ones (``__`` in a name stands for ``/``)."""
    texts = {
        "Makefile": f"# SPDX\nVERSION = 7\nPATCHLEVEL = 3\nSUBLEVEL = {sublevel}\nEXTRAVERSION ={extra}\nNAME = Toy\n",
        "Kconfig": 'mainmenu "toy"\n',
        "arch/arm64/kernel/vmlinux.lds.S": "SECTIONS\n",
        "arch/arm64/Makefile": "obj-y += kernel/\n",
        "kernel/sched.c": "int sched;\n",
        "scripts/run.sh": "#!/bin/sh\n",
        **{name.replace("__", "/"): text for name, text in files.items()},
    }
    for name, text in texts.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)
    (path / "scripts/run.sh").chmod(0o755)
    (path / "arch/arm64/link").symlink_to("Makefile")
    return path


def pack(directory: Path, tarball: Path) -> Path:
    """A tarball with `directory` as its one top directory; its files' times are TOY_TIME."""
    tarball.parent.mkdir(parents=True, exist_ok=True)
    words: list[str | Path] = ["tar", "-caf", tarball, f"--mtime=@{TOY_TIME}", "-C", directory.parent, directory.name]
    subprocess.run(words, check=True)
    return tarball


def write_script(path: Path, text: str) -> Path:
    """An executable shell script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return path
