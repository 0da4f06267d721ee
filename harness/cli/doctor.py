"""`harness doctor`."""

from __future__ import annotations

import click

from harness.cli.output import tell
from harness.errors import InfraError


@click.command(epilog="Example: harness doctor")
def doctor() -> None:
    """Show which host tools are installed, in which version, and what each is needed for; and what the cache holds."""
    from harness.build import prune, sandbox
    from harness.build.doctor import doctor_rows
    from harness.target.methods.qemu import pick_accel

    rows = [*doctor_rows(), sandbox.doctor_row()]
    width = max(len(row.name) for row in rows)
    found = max(len(row.found) for row in rows)
    for row in rows:
        mark = "ok     " if row.ok else "MISSING"
        tell(f"{mark} {row.name:<{width}}  {row.found:<{found}}  {row.needed_for}  {row.remedy}".rstrip())
    accel, why = pick_accel()
    tell(f"ok      {'QEMU accelerator':<{width}}  {accel} ({why})")
    for line in prune.usage():
        tell(f"cache   {line}")
    if not all(row.ok for row in rows):
        raise InfraError("some tools are missing; `harness run` installs them if it may, or install them as shown")
