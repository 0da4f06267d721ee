"""`harness compare`."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.output import tell, write
from harness.errors import EXIT_KERNEL, EXIT_OK


@click.command(epilog="Examples: harness compare last-good latest   ·   harness compare v7.2..v7.3 --git ~/linux")
@click.argument("older", metavar="OLDER")
@click.argument("newer", metavar="NEWER", required=False, default="")
@click.option("--history", "history", type=click.Path(path_type=Path, dir_okay=False), help="The history's file.")
@click.option(
    "--git",
    "repository",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=Path(),
    help="The git repository that knows the names of kernels; default: the current directory.",
)
@click.option("--format", "form", type=click.Choice(["text", "json", "html"]), default="text", show_default=True)
@click.option("--json", "form", flag_value="json", help="The same as --format json.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write it to this file.")
@click.option("--all", "whole", is_flag=True, help="Text: all of it, however long.")
def compare(
    older: str, newer: str, history: Path | None, repository: Path, form: str, out: Path | None, whole: bool
) -> int:
    """Tell what changed between two runs: OLDER and NEWER are ids, directories, `latest` or `last-good`, or the git
    commits or tags that their kernels were built from. OLDER..NEWER means the same.

    Exits with 1 only if the newer kernel is likely worse."""
    from harness.campaign.history import sides
    from harness.campaign.naming import split_range
    from harness.report.compare import compare as compared
    from harness.report.compare_html import comparison_html
    from harness.report.compare_text import comparison_json, comparison_text
    from harness.store.database import history_file, opened

    if not newer:
        older, newer = split_range(older)
    with opened(history_file(history)) as connection:
        old, new = sides(connection, older, newer, repository=repository.resolve())
    comparison = compared(old, new)
    if form == "html":
        text = comparison_html(comparison)
    elif form == "json":
        text = comparison_json(comparison)
    else:
        text = comparison_text(comparison, most_lines=None if whole else 60)
    if out:
        write(out, text)
    else:
        tell(text)
    return EXIT_KERNEL if comparison.regressions else EXIT_OK
