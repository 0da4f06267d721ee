"""A night whose cells run on the machines of a lab."""

from __future__ import annotations

import contextlib
from pathlib import Path

from harness.build.cache import scratch_dir
from harness.campaign.lab.addresses import Address, Credentials, parse_address
from harness.campaign.lab.engine import Lab, require, scheduling
from harness.campaign.lab.executor import LabExecutor
from harness.campaign.nightly.cells import Checked, Resolved
from harness.campaign.nightly.local import LocalExecutor
from harness.campaign.nightly.night import play
from harness.campaign.nightly.place import NightPlace
from harness.campaign.request import LabAccess
from harness.errors import UserError
from harness.limits import YAML_BYTES
from harness.model.night import Morning
from harness.model.progress import Progress
from harness.run.side_run import SideRuns


def credentials(access: LabAccess) -> Credentials | None:
    """Return what TLS needs; None without it."""
    if access.tls_ca and access.tls_cert and access.tls_key:
        return Credentials(ca=access.tls_ca, certificate=access.tls_cert, key=access.tls_key)
    return None


def check_access(access: LabAccess) -> tuple[Address, Credentials | None]:
    """Return where the scheduler is, or is to be, and what TLS needs. Raises UserError."""
    tls = credentials(access.checked())
    option, text = ("--scheduler", access.scheduler) if access.scheduler else ("--listen", access.listen)
    address = parse_address(text, option=option, tls=tls)
    require()
    return address, tls


def play_in_lab(checked: Checked, access: LabAccess, progress: Progress) -> tuple[Morning, NightPlace]:
    """Play a night. Kernels are built here; every cell runs where a worker offers its board."""
    address, tls = check_access(access)
    request = checked.request
    expectations = [_text(path) for path in request.expectations]
    with contextlib.ExitStack() as until_over:
        if access.listen:
            address = until_over.enter_context(scheduling(address, tls))
            progress.say(f"workers join by: harness worker --scheduler {address}")
        lab = until_over.enter_context(Lab(address, tls, say=progress.say))
        scratch = until_over.enter_context(scratch_dir("lab"))

        def there(resolved: Resolved) -> LabExecutor:
            local = LocalExecutor(
                resolved.recipes, inventory=checked.inventory, side_runs=SideRuns([]), progress=progress
            )
            return LabExecutor(
                local,
                lab,
                expectations=expectations,
                history=request.history,
                scratch=scratch,
                say=progress.say,
            )

        return play(checked, executor=there, progress=progress)


def _text(path: Path) -> str:
    try:
        return YAML_BYTES.read(path).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: expected a file of known outcomes, can't read it: {error}") from None
