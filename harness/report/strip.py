"""How a test ended in its latest runs in, a small picture and the same in words out.

The kinds differ in height and shape, so the picture can be read without colours; the words are for those who can't see
it. The template strip.html.j2 makes an SVG of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from harness.model.past import Seen
from harness.model.result import Verdict
from harness.report.text import one_line

HEIGHT = 16  # units of the picture, of which the lowest two are for the mark below the last run
_BASE = 13
_STEP, _WIDTH = 5, 4
_MOST_NAMED = 3  # runs
# kind: height of its bar. "lab" is drawn as a frame.
_HEIGHTS = {"pass": 4, "fail": 12, "known": 8, "skip": 1, "lab": 12}
_KINDS = {
    Verdict.PASS: "pass",
    Verdict.SKIP: "skip",
    Verdict.XFAIL: "known",
    Verdict.ERROR: "lab",
    Verdict.NOTRUN: "lab",
}  # all others are failures


@dataclass(frozen=True, kw_only=True)
class Strip:
    """`paths`: the data of one SVG path for each kind that occurs, by kind. `last`: where the bar of the last run
    begins."""

    width: int
    last: int
    paths: dict[str, str]
    words: str


def strip(seen: Sequence[Seen]) -> Strip | None:
    """Return the picture of a test's runs, the oldest at the left; None if there are none."""
    if not seen:
        return None
    paths: dict[str, str] = {}
    for number, each in enumerate(seen):
        kind = _KINDS.get(each.verdict, "fail")
        paths[kind] = paths.get(kind, "") + _bar(_STEP * number, _HEIGHTS[kind], is_frame=kind == "lab")
    return Strip(width=_STEP * len(seen), last=_STEP * (len(seen) - 1), paths=paths, words=_words(seen))


def _bar(left: int, height: int, *, is_frame: bool) -> str:
    outer = f"M{left} {_BASE}v-{height}h{_WIDTH}v{height}z"
    return outer + (f"m1-1h{_WIDTH - 2}v-{height - 2}h-{_WIDTH - 2}z" if is_frame else "")  # wound the other way


def _words(seen: Sequence[Seen]) -> str:
    counts = Counter(each.verdict for each in seen)
    counted = ", ".join(f"{counts[verdict]} {verdict}" for verdict in Verdict if counts[verdict])
    others = [each for each in seen[:-1] if each.verdict is not Verdict.PASS]
    named = [f"{each.verdict} in {one_line(each.run)}" for each in reversed(others[-_MOST_NAMED:])]
    more = [f"{len(others) - _MOST_NAMED} earlier"] if len(others) > _MOST_NAMED else []
    runs = f"last {len(seen)} runs" if len(seen) > 1 else "first run"
    return f"{runs}: {counted}{''.join(f'; {each}' for each in [*named, *more])}"
