"""`harness nightly`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from harness.cli.options import boards_file_option, mail_options, request_from, tls_options
from harness.cli.output import tell
from harness.errors import EXIT_OK, HarnessError


def _print_schema(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        from harness.campaign.nightly.cells import plan_schema

        tell(plan_schema())
        context.exit()


@click.command(
    epilog="Examples: harness nightly lab.yaml --dry-run   ·   harness nightly lab.yaml --mail-to lab@example.org"
)
@click.argument("plan", metavar="PLAN.yaml", type=click.Path(path_type=Path))
@click.option("--list", "list_only", is_flag=True, help="List the cells and what they probably take, and do nothing.")
@click.option("--dry-run", is_flag=True, help="Fetch the kernels, print the cells in their order, and build nothing.")
@click.option("--new", is_flag=True, help="Begin another night, even if the last one was interrupted and may go on.")
@click.option(
    "--out",
    "out_dir",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Directory for all nights; default: out/nightly/PLAN.",
)
@boards_file_option
@click.option(
    "--expectations",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE",
    help="Read known outcomes from FILE instead of testcases/expectations.yaml. Repeatable.",
)
@click.option("--history", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="The history's file.")
@click.option("--jobs", type=click.IntRange(1), help="Number of jobs for make; default: one per CPU.")
@click.option("--allow-plain-ftrace", is_flag=True, help="Accept compilers that lack -fpatchable-function-entry.")
@click.option(
    "--no-sandbox",
    is_flag=True,
    envvar="HARNESS_NO_SANDBOX",
    help="Build without a sandbox, for sources and patches that you trust like your own programs.",
)
@click.option(
    "--listen",
    is_flag=False,
    flag_value="127.0.0.1:8786",
    default="",
    metavar="[HOST:PORT]",
    help="Run cells on the boards that workers offer (`harness worker`), which connect here; default: 127.0.0.1:8786.",
)
@click.option("--scheduler", default="", metavar="HOST:PORT", help="The same by a scheduler that runs already.")
@tls_options
@click.option("--mail-to", "to", multiple=True, metavar="ADDRESS", help="Mail the summary to ADDRESS. Repeatable.")
@mail_options
@click.option(
    "--schema",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_schema,
    help="Print the JSON schema of plans for editors, and exit.",
)
def nightly(list_only: bool, dry_run: bool, **given: Any) -> int:
    """Build and test every cell of PLAN.yaml: kernels, toolchains, configurations, boards and suites.

    Started again after an interruption, the night goes on where it was. What the time does not suffice for comes first
    in the next one. At the end, every cell is compared with its last good night."""
    from harness.campaign.nightly.cells import check
    from harness.campaign.nightly.morning import PAGE, check_mail, mail
    from harness.campaign.nightly.night import listed, planned, play_here
    from harness.campaign.request import LabAccess, NightMail, NightRequest
    from harness.display import Display
    from harness.report.night import morning_text

    checked = check(request_from(NightRequest, given))
    wish = request_from(NightMail, given)
    if wish.to:
        check_mail(wish)
    access = request_from(LabAccess, given).checked()
    if access.is_wanted:
        from harness.campaign.lab.playing import check_access, play_in_lab

        check_access(access)
    if list_only:
        tell("\n".join(listed(checked)))
        return EXIT_OK
    with Display() as display:
        if dry_run:
            tell("\n".join(planned(checked, display)))
            return EXIT_OK
        made, here = play_in_lab(checked, access, display) if access.is_wanted else play_here(checked, display)
    tell(morning_text(made))
    tell(f"summary: {here.directory / PAGE}")
    if wish.to:
        try:
            tell(mail(made, wish))
        except HarnessError as error:  # the night is over and its pages are written: its exit code says more
            tell(f"harness: the summary was not mailed: {error.message}", err=True)
            return made.exit_code or error.exit_code
    return made.exit_code
