"""`harness known`."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.output import tell

_FILE = click.option(
    "--file", type=click.Path(path_type=Path, dir_okay=False), help="Default: testcases/known-issues.yaml."
)


@click.group(epilog="Example: harness known stale --days 60")
def known() -> None:
    """Keep the list of known issues, which hide a test's failure only if it has the same signature."""


@known.command("add", epilog="Example: harness known add out/latest selftests/livepatch/test-kprobe --link https://…")
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("test")
@click.option("--reason", default="", help="Why, for people; default: what the test said.")
@click.option("--link", default="", metavar="URL", help="Where it is discussed.")
@click.option("--who", default="", help="Who says so; default: your name in git's configuration.")
@click.option("--until", default="", help="The last day or kernel version for which it counts.")
@_FILE
def add(run: Path, test: str, reason: str, link: str, who: str, until: str, file: Path | None) -> None:
    """Write down a failed TEST of RUN as known, by its signature, on this board and from this kernel on. RUN is the
    directory of a run, or its name in the history (`latest`, an id)."""
    from harness.campaign.known import add_known
    from harness.campaign.naming import directory_of

    path, entry = add_known(directory_of(run), test, file=file, reason=reason, issue=link, who=who, until=until)
    tell(f"{path}: added\n{entry}")


@known.command("stale")
@click.option("--days", default=30, show_default=True, type=click.IntRange(1), help="Not seen for so many days,")
@click.option("--runs", default=20, show_default=True, type=click.IntRange(1), help="or in so many runs that could.")
@click.option("--history", type=click.Path(path_type=Path, dir_okay=False), help="The history's file.")
@_FILE
def stale(days: int, runs: int, history: Path | None, file: Path | None) -> None:
    """List known outcomes that could be removed: their time is over, or the history has not seen them for long."""
    from harness.campaign.stale import stale_ones

    lines = stale_ones(files=(file,) if file else (), history=history, days=days, runs=runs)
    tell("\n".join(lines) or "every known outcome was seen lately, or could not have been")
