"""`harness init`."""

from __future__ import annotations

import errno
import shlex
from pathlib import Path

import click

from harness.cli.output import tell
from harness.errors import InfraError, UserError
from harness.layout import SKELETON

# The files to create, and the file of the skeleton that each is a copy of.
FILES = {
    "boards.yaml": "boards.yaml",
    "kconfigs/example.config": "kconfigs/example.config",
    "Jenkinsfile": "Jenkinsfile",
    ".gitignore": "gitignore",
}
_FAULTS_OF_THE_HOST = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


@click.command(epilog="Example: harness init ~/kernel-tests")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
def init(directory: Path) -> None:
    """Create in DIR the files that you edit: boards, a kernel configuration fragment, a Jenkins job."""
    for name in FILES:
        path = directory / name
        if path.exists() or path.is_symlink():
            raise UserError(
                f"{path}: already exists and is not overwritten; name another directory or move the file away"
            )
    for name, source in FILES.items():
        _write(directory / name, (SKELETON / source).read_text())
        tell(directory / name)
    quoted = shlex.quote(str(directory))
    tell(
        f"\nNext:\n"
        f"  cd {quoted}\n"
        f'  export HARNESS_BOARDS="$PWD/boards.yaml"\n'
        f"  harness doctor              which host tools are installed; `harness run` installs what is missing\n"
        f"  harness boards              the machines; describe yours in boards.yaml\n"
        f"  harness run                 build the newest kernel, boot it in QEMU, test it"
    )


def _write(path: Path, text: str) -> None:
    """Create a new file. An existing one is never overwritten, even if it appeared a moment ago."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x") as file:
            file.write(text)
    except OSError as error:
        kind = InfraError if error.errno in _FAULTS_OF_THE_HOST else UserError
        raise kind(f"{path}: expected to create a new file, can't: {error.strerror}") from None
