"""`harness report`."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.output import tell


@click.command(epilog="Example: harness report out/latest")
@click.argument("run_dir", type=click.Path(path_type=Path))
@click.option("--history", type=click.Path(path_type=Path, dir_okay=False), help="The history's file.")
@click.option("--no-history", is_flag=True, help="Say nothing of earlier runs.")
def report(run_dir: Path, history: Path | None, no_history: bool) -> None:
    """Write junit.xml, results.json, report.html and summary.md again from a run's recorded events; needs no kernel and
    no board. What the history knows of the run's tests is added where it has the run."""
    from harness.campaign.past import report_again
    from harness.report.summary import summary_lines
    from harness.run.documents import write_documents

    results = write_documents(run_dir) if no_history else report_again(run_dir, history=history, say=tell)
    tell("\n".join(summary_lines(results, run_dir=run_dir)))
