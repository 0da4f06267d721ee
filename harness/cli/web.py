"""`harness web`."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.output import tell
from harness.errors import UserError


@click.command(epilog="Examples: harness web   ·   harness web --export pages --days 30")
@click.option("--listen", default="127.0.0.1:8000", show_default=True, help="ADDRESS:PORT; 0.0.0.0:8000: all networks.")
@click.option("--export", "directory", type=click.Path(path_type=Path, file_okay=False), help="Write files instead.")
@click.option("--days", type=int, help="With --export: how many days up to the newest run.")
@click.option("--history", "file", type=click.Path(path_type=Path, dir_okay=False), help="The history's file.")
def web(listen: str, directory: Path | None, days: int | None, file: Path | None) -> None:
    """Show the history as pages in a browser: nights, tests, faults, boards, comparisons.

    Pages only read. They are served to this machine unless --listen says otherwise; there are no passwords."""
    from harness.store.database import history_file, opened
    from harness.web.address import MOST_DAYS, Filter
    from harness.web.export import export
    from harness.web.server import serve

    path = history_file(file)
    with opened(path):
        pass  # a file that is missing or no history is told now, not in each page
    if days is not None and not 1 <= days <= MOST_DAYS:
        raise UserError(f"--days: expected a number from 1 to {MOST_DAYS}, found '{days}'")
    if directory:
        shown = Filter(days=days) if days is not None else Filter()
        count = export(path, directory, shown=shown)
        tell(f"{directory / 'index.html'}: {count} pages")
        return
    if days is not None:
        raise UserError("--days: expected with --export; in a browser each page has its own filter")
    serve(path, listen=listen, ready=lambda url: tell(f"{url} shows {path}; Ctrl-C ends it"))
