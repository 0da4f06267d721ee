"""`harness worker`: offers the boards of this host to whatever scheduler is there, night after night."""

from __future__ import annotations

import time

from harness import interruption
from harness.boards.inventory import Inventory, read_inventory
from harness.build.cache import cache_dir, scratch_dir
from harness.campaign.lab.addresses import Address, Credentials, parse_address
from harness.campaign.lab.builds import Arrivals
from harness.campaign.lab.engine import Membership
from harness.campaign.lab.host import LabHost
from harness.campaign.lab.playing import check_access
from harness.campaign.lab.spool import Spool
from harness.campaign.request import LabAccess, WorkerRequest
from harness.errors import InfraError
from harness.model.progress import Progress

_AGAIN_S = 5.0  # between two attempts to find a scheduler


def serve(request: WorkerRequest, access: LabAccess, progress: Progress) -> None:
    """Work until the end is asked for, which is no error. Raises UserError."""
    scheduler, tls = check_access(access)
    here = parse_address(request.address, option="--address", tls=tls) if request.address else None
    inventory = read_inventory(request.boards_file)
    boards = _offered(inventory, request, progress)
    shared: list[object] = ["--boards", request.boards_file.absolute()] if request.boards_file else []
    with scratch_dir("lab") as scratch:
        host = LabHost(
            inventory,
            boards,
            shared=[*shared, "--no-history"],
            spool=Spool(cache_dir("lab-results")),
            builds=Arrivals(scratch, progress),
            say=progress.say,
        )
        try:
            _work(host, scheduler, tls, here, progress)
        except KeyboardInterrupt:
            progress.say("ending: runs record what they have, and their boards are switched off")
        finally:
            host.stop()


def _offered(inventory: Inventory, request: WorkerRequest, progress: Progress) -> list[str]:
    if request.boards:
        return [inventory.board(name).name for name in request.boards]
    for name, entry in inventory.entries.items():
        if entry.unset:
            progress.say(f"board {name} is not offered: {entry.unset[0]}")
    return [name for name, entry in inventory.entries.items() if not entry.unset]


def _work(host: LabHost, scheduler: Address, tls: Credentials | None, here: Address | None, progress: Progress) -> None:
    told = ""
    while not interruption.asked():
        try:
            host.begin()
            with scratch_dir("lab") as scratch:
                member = Membership(host, scheduler, tls, boards=host.boards, here=here, scratch=scratch)
                try:
                    told = _said(
                        progress, told, f"connected to {scheduler}; boards: {', '.join(host.boards) or 'none'}"
                    )
                    member.wait()
                finally:
                    member.close()
            told = _said(progress, told, f"the connection to {scheduler} is lost; what runs goes on, and is kept")
        except InfraError as error:
            told = _said(progress, told, f"{error.message}; trying again every {_AGAIN_S:.0f} s")
        time.sleep(_AGAIN_S)


def _said(progress: Progress, told: str, text: str) -> str:
    """Say it unless it was said last; return it."""
    if text != told:
        progress.say(text)
    return text
