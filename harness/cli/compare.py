"""`harness compare`."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.output import tell
from harness.errors import EXIT_KERNEL, EXIT_OK


@click.command(epilog="Examples: harness compare last-good latest   ·   harness compare out/stock out/patched")
@click.argument("older")
@click.argument("newer")
@click.option("--history", "history", type=click.Path(path_type=Path, dir_okay=False), help="The history's file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--all", "whole", is_flag=True, help="Print all, however long.")
def compare(older: str, newer: str, history: Path | None, as_json: bool, whole: bool) -> int:
    """Tell what changed between two runs: OLDER and NEWER are ids, directories, `latest` or `last-good`.

    Exits with 1 only if the newer kernel is likely worse."""
    from harness.campaign.history import sides
    from harness.report.compare import compare as compared
    from harness.report.compare_text import comparison_json, comparison_text
    from harness.store.database import history_file, opened

    with opened(history_file(history)) as connection:
        old, new = sides(connection, older, newer)
    comparison = compared(old, new)
    tell(comparison_json(comparison) if as_json else comparison_text(comparison, most_lines=None if whole else 60))
    return EXIT_KERNEL if comparison.regressions else EXIT_OK
