"""`harness run`."""

from __future__ import annotations

from typing import Any

import click

from harness.campaign.local import check, list_tests, run_here
from harness.campaign.request import BuildOptions, RunRequest
from harness.cli.options import Waiting, request_from, run_options
from harness.cli.output import tell


@click.command(cls=Waiting, epilog="Example: harness run --suite selftests/ftrace -k fgraph --patches ./series.mbox")
@run_options
def run(list_only: bool, **given: Any) -> int:
    """Build the kernel if needed, boot it, run the tests, and write junit.xml, results.json and what people read."""
    checked = check(RunRequest(kernel=request_from(BuildOptions, given), **given), boots=not list_only)
    from harness.display import Display
    from harness.report.summary import summary_lines

    with Display() as display:
        if list_only:
            tell("\n".join(list_tests(checked, display)))
            return 0
        done = run_here(checked, display)
    tell("\n".join(summary_lines(done.results, run_dir=done.run_dir)))
    return done.exit_code
