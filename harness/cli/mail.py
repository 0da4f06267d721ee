"""`harness mail`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from harness.cli.options import mail_options, request_from
from harness.cli.output import tell


@click.command(
    epilog="Examples: harness mail last-good latest --to maintainer@example.org --dry-run   ·   harness mail out/stock "
    "out/patched --to list@example.org --in-reply-to '<20260101.1@example.org>'"
)
@click.argument("older")
@click.argument("newer")
@click.option("--to", multiple=True, required=True, metavar="ADDRESS", help="Who gets it. Repeatable.")
@mail_options
@click.option(
    "--in-reply-to",
    multiple=True,
    metavar="MESSAGE-ID",
    help="The mail that it answers; if repeated, those before it in the thread, first to last.",
)
@click.option("--history", type=click.Path(path_type=Path, dir_okay=False), help="The history's file.")
@click.option("--dry-run", is_flag=True, help="Print the mail and send nothing.")
def mail(dry_run: bool, **given: Any) -> None:
    """Mail what changed between two runs, in at most 60 lines; where nothing is new, nothing is sent.

    OLDER and NEWER are as for `harness compare`. What only the lab did, and what failed before, is not new."""
    from harness.campaign.mailing import mail_about
    from harness.campaign.request import MailRequest

    made = mail_about(request_from(MailRequest, given))
    tell(str(made) if dry_run else made.send())
