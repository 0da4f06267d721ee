"""`harness worker`."""

from __future__ import annotations

from typing import Any

import click

from harness.cli.options import board_names, boards_file_option, request_from, tls_options
from harness.errors import EXIT_OK


@click.command(
    epilog="Example: harness worker --scheduler 127.0.0.1:8786 --boards lab.yaml   ·   docs/nightly.md, Many machines"
)
@click.option(
    "--scheduler",
    required=True,
    metavar="HOST:PORT",
    help="Where the night's scheduler is: `harness nightly --listen`, or one that always runs.",
)
@boards_file_option
@click.option("--board", "boards", multiple=True, shell_complete=board_names, help="Offer this board only. Repeatable.")
@click.option(
    "--address",
    default="",
    metavar="HOST:PORT",
    help="Listen there, where the scheduler reaches this worker; default: a free port of the interface towards it.",
)
@tls_options
def worker(**given: Any) -> int:
    """Run cells of nights on the boards of this host, until it is ended.

    It waits for a scheduler, and after a night for the next one. Ended by SIGTERM or Ctrl-C it ends what runs, and
    switches the boards off."""
    from harness.campaign.lab.serving import serve
    from harness.campaign.request import LabAccess, WorkerRequest
    from harness.display import Display

    access = request_from(LabAccess, given)
    request = request_from(WorkerRequest, given)
    with Display() as display:
        serve(request, access, display)
    return EXIT_OK
