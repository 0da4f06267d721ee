"""`harness bisect`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from harness.cli.options import board_options, build_options, number, request_from, wait_option
from harness.cli.output import tell
from harness.model.bisect import Blame


def _names(_context: click.Context, _parameter: click.Parameter, text: str) -> tuple[str, ...]:
    return tuple(text.split(",")) if text else ()


def _paths(_context: click.Context, _parameter: click.Parameter, text: str) -> tuple[Path, ...]:
    return tuple(Path(name).expanduser() for name in text.split(",")) if text else ()


def _blame(_context: click.Context, _parameter: click.Parameter, text: str) -> Blame:
    return Blame(text)


_BLAMES = click.Choice([blame.value for blame in Blame])


@click.command(
    epilog="Examples: harness bisect TEST --kernel git:../linux --good v7.2 --bad v7.3   ·   "
    "harness bisect TEST --patches series.mbox"
)
@click.argument("test", metavar="TEST")
@build_options
@board_options
@wait_option
@click.option("--good", default="", metavar="COMMIT", help="A commit of --kernel git:PATH on which the test passes.")
@click.option("--bad", default="", metavar="COMMIT", help="A later one, on which it fails.")
@click.option("--first-parent", is_flag=True, help="Of merges search only the branch that they were merged into.")
@click.option(
    "--symbols-of",
    "changed",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Which symbol of this fragment makes the test fail.",
)
@click.option("--toolchains", default="", metavar="A,B,…", callback=_names, help="Which toolchain, the good one first.")
@click.option(
    "--qemus", default="", metavar="DIR,DIR,…", callback=_paths, help="Which QEMU, each in its directory, likewise."
)
@click.option("--failure", default="", metavar="TEXT", help="Text of the failure in question; default: the first one.")
@click.option("--any-failure", is_flag=True, help="Every failure of the test counts.")
@click.option("--build-failure", type=_BLAMES, default="skip", show_default=True, callback=_blame,
              help="What a kernel that does not build is.")  # fmt: skip
@click.option("--boot-failure", type=_BLAMES, default="skip", show_default=True, callback=_blame,
              help="What a kernel that does not boot is.")  # fmt: skip
@click.option("--sure", "told", default=0.997, show_default=True, metavar="P", type=number(0.5, 0.9999),
              help="The probability of the answer to stop at.")  # fmt: skip
@click.option("--most", default=300, show_default=True, type=click.IntRange(10, 100_000), metavar="N",
              help="Repetitions of an end that shows nothing, before giving up.")  # fmt: skip
@click.option("--builds", "most_builds", default=0, type=click.IntRange(0), metavar="N",
              help="At most so many builds; default: as many as it takes.")  # fmt: skip
@click.option("--timeout-factor", default=1.0, metavar="X", type=number(0.01), help="Multiply every test's time limit.")
@click.option("--out", "out_dir", type=click.Path(path_type=Path), metavar="DIR",
              help="Directory of the search; default: out/bisect/TEST. The same command goes on there.")  # fmt: skip
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def bisect(form: str, **given: Any) -> int:
    """Find the commit, patch, symbol, toolchain or QEMU that made TEST fail, also where it fails only sometimes.

    TEST is a test's id, as reports show it. Ends with 0 if the culprit was found, with 1 if it can't be told."""
    from harness.boards.lease import command_line
    from harness.campaign.bisect.local import bisect_here
    from harness.campaign.bisect.place import Place
    from harness.campaign.request import BisectRequest, BuildOptions
    from harness.display import Display
    from harness.model.names import as_name
    from harness.report.bisect import answer_as_json, answer_text

    request = BisectRequest(kernel=request_from(BuildOptions, given), **given)
    place = Place((request.out_dir or Path("out/bisect") / as_name(request.test)).absolute())
    with Display() as display:
        answer = bisect_here(request, place, display, command=command_line())
    tell(answer_as_json(answer).rstrip() if form == "json" else "\n".join(answer_text(answer)))
    return answer.exit_code
