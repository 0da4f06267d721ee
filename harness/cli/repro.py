"""`harness repro`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from harness.cli.options import Waiting, boards_file_option, number, wait_option
from harness.cli.output import tell
from harness.errors import EXIT_KERNEL, EXIT_OK


@click.command(
    cls=Waiting,
    epilog="Examples: harness repro out/latest TEST   ·   harness repro out/latest TEST --times 50   ·   "
    "harness repro out/latest TEST --attach",
)
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("test")
@click.option("--times", type=click.IntRange(1, 10_000), metavar="N", help="Repeat it here, N times; no archive.")
@click.option("--attach", is_flag=True, help="Repeat it (at most --times, else 20 times) until it fails; then stop the "
              "machine where it is, for gdb, until Ctrl-C. QEMU only.")  # fmt: skip
@click.option("--trace", is_flag=True, help="Repeat it likewise, with function_graph on the functions of its report; "
              "leave the trace. QEMU only.")  # fmt: skip
@click.option("--build", "build_dir", type=click.Path(path_type=Path), metavar="DIR",
              help="The build of its kernel; default: the one that it was seen on, in the cache.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), metavar="PATH",
              help="The archive (default: out/repro-TEST.tar.gz), or the directory of the repetitions.")  # fmt: skip
@click.option("--timeout-factor", default=1.0, metavar="X", type=number(0.01), help="Multiply every test's time limit.")
@click.option("--hammer-seconds", default=5.0, show_default=True, metavar="SECONDS", type=number(0.1, 86400.0),
              help="How long each test in testcases/hammer runs its load.")  # fmt: skip
@click.option("--history", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="The history's file.")
@boards_file_option
@wait_option
def repro(**given: Any) -> int:
    """Make a failure repeatable: an archive of what led to the failure of TEST in RUN, with one command that repeats it
    anywhere. RUN is a run's directory or id, `latest`, or the directory that such an archive contains.

    With --times, --attach or --trace, repeat it here instead. Exits with 0 if it came back at least once, with 1 if
    not."""
    from harness.campaign.repro import ReproRequest, failure_named, repeat, write_archive
    from harness.display import Display
    from harness.report.repro import told

    if (given["attach"] or given["trace"]) and given["times"] is None:
        given["times"] = 20
    request = ReproRequest(**given)
    failure = failure_named(request)
    if request.times is None:
        path, recipe = write_archive(failure, request)
        tell(f"{path}\nunpack it and run ./repro.sh in it; README there has the details")
        for why in recipe.lacking:
            tell(f"not in it: {why}")
        return EXIT_OK
    with Display() as display:
        outcome = repeat(failure, request, display)
    if outcome.was_held:
        return EXIT_OK
    tell("\n".join(told(outcome.repeated)))
    return outcome.code or (EXIT_OK if outcome.repeated.alike else EXIT_KERNEL)
