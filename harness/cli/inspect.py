"""`harness inspect`."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.output import tell
from harness.errors import EXIT_KERNEL, EXIT_OK, UserError


@click.command(
    epilog="Examples: harness inspect vmlinux  ·  harness inspect linux-image-6.12-arm64.deb  ·  "
    "harness inspect --compare old/vmlinux new/vmlinux"
)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE…")
@click.option("--compare", is_flag=True, help="Compare two files: functions that gained or lost a record, the flavour.")
@click.option("--modules", is_flag=True, help="Also read all modules in a package or directory (half a minute).")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document with everything that was found.")
def inspect(files: tuple[Path, ...], compare: bool, modules: bool, as_json: bool) -> int:
    """How the functions of a kernel or module can be traced: the code at their entries, the table of records, what is
    left out and why. FILE is a vmlinux, a module, an Image or vmlinuz, a package, or a directory with them.

    Exit code 1: a record or function is at fault; 2: a file can't be read (the others are inspected all the same)."""
    from harness.campaign import inspecting
    from harness.display import Display
    from harness.report.inspection import comparison_text, inspection_json, inspection_text

    if compare and len(files) != 2:
        raise UserError(f"--compare: expected two files, found {len(files)}")
    with Display() as display:
        found = inspecting.inspect_all(files, modules=modules, progress=display)
    comparison = inspecting.compared(*found) if compare else None
    if as_json:
        tell(inspection_json(found, comparison))
    elif comparison:
        tell("\n".join(comparison_text(comparison)))
    else:
        tell("\n\n".join("\n".join(inspection_text(each)) for each in found))
    if any(each.is_wrong for each in found):
        return EXIT_KERNEL
    if unread := [message for each in found for message in each.unread]:
        more = f" (and {len(unread) - 1} more)" if len(unread) > 1 else ""
        raise UserError(f"{unread[0]}{more}")
    return EXIT_OK
