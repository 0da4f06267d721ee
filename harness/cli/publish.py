"""`harness publish`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from harness.cli.options import request_from
from harness.cli.output import tell


@click.group(
    epilog="Examples: harness publish kcidb out/latest --origin mylab --server https://kcidb.example.org   ·   harness "
    "publish patchwork out/latest"
)
def publish() -> None:
    """Give the results of runs to others."""


@publish.command("kcidb", epilog="Example: harness publish kcidb out/latest --origin mylab --dry-run")
@click.argument("runs", nargs=-1, type=click.Path(path_type=Path))
@click.option("--origin", default="", envvar="HARNESS_KCIDB_ORIGIN", help="Your CI system's name in KCIDB.")
@click.option(
    "--server", default="", envvar="HARNESS_KCIDB_SERVER", metavar="URL", help="The address of KCIDB's server."
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A file with the token for the server; default: $HARNESS_KCIDB_TOKEN.",
)
@click.option("--tree", default="", metavar="NAME", help="The name of the kernel's tree, as net-next.")
@click.option("--files-url", default="", metavar="URL", help="Where the files of the run can be read.")
@click.option("--queue", type=click.Path(path_type=Path), metavar="DIR", help="Where what is to be sent waits.")
@click.option("--dry-run", is_flag=True, help="Print the submissions, queue and send nothing.")
def kcidb(dry_run: bool, **given: Any) -> None:
    """Submit RUNS (directories) to KCIDB, and what is still waiting in the queue.

    What can't be sent waits on the disk; without RUNS, only that is sent."""
    from harness.campaign.publishing import kcidb_documents, publish_kcidb
    from harness.campaign.request import KcidbRequest

    request = request_from(KcidbRequest, given)
    if dry_run:
        tell("\n".join(document.decode() for document in kcidb_documents(request)))
    else:
        tell(publish_kcidb(request))


@publish.command(
    "patchwork", epilog="Example: harness publish patchwork out/latest --target-url https://ci.example.org/9"
)
@click.argument("run_dir", type=click.Path(path_type=Path))
@click.option("--target-url", "url", default="", metavar="URL", help="Where the results can be read.")
@click.option(
    "--context", "prefix", default="arm64-ftrace", show_default=True, help="What the checks' names begin with."
)
def patchwork(run_dir: Path, url: str, prefix: str) -> None:
    """Print a run's checks as JSON, as Patchwork's API takes them for a patch."""
    from harness.campaign.publishing import patchwork_checks

    tell(patchwork_checks(run_dir, url=url, prefix=prefix).rstrip("\n"))
