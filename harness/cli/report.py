"""`harness report`."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.output import tell


@click.command(epilog="Example: harness report out/latest")
@click.argument("run_dir", type=click.Path(path_type=Path))
def report(run_dir: Path) -> None:
    """Write junit.xml, results.json and report.html again from a run's recorded events; needs no kernel and no
    board."""
    from harness.report.summary import summary_lines
    from harness.run import documents

    results = documents.write_documents(run_dir)
    tell("\n".join(summary_lines(results, run_dir=run_dir)))
