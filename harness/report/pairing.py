"""Pairs the patches of two versions of a series by title and by what they change, for where git can't.

git range-diff compares commits, so it needs both series to apply. This needs their texts only."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from harness.model.kernel import Patch
from harness.model.review import Pair, Relation

_ALIKE = 0.4  # share of changed lines that two patches have in common, from which they are versions of one
_MOST_COMPARED = 40_000  # pairs of patches
_MARKS = re.compile(r"^(?:\s*(?:\[[^\]]*\]|(?:re|fwd?):))+\s*", re.IGNORECASE)
_FILE = re.compile(r"^(?:v\d+-)?\d+-|\.(?:patch|diff)$")


def title_of(patch: Patch) -> str:
    """Return a patch's title without tags such as ``[PATCH v2 3/5]``; of a file that says none, from its name."""
    subject = patch.mailed.subject if patch.mailed else ""
    text = subject or _FILE.sub("", patch.name)
    return _MARKS.sub("", text).strip() or text


def paired(older: Sequence[Patch], newer: Sequence[Patch]) -> tuple[Pair, ...]:
    """Return the pairs in the order of the newer series; patches that were dropped come last."""
    partner: dict[int, int] = {}  # newer → older
    left = dict(enumerate(older))
    for is_alike in (_is_equal, _has_title):
        for new, patch in enumerate(newer):
            old = next((number for number, each in left.items() if is_alike(each, patch)), None)
            if new not in partner and old is not None:
                partner[new] = old
                del left[old]
    _by_lines(left, {n: p for n, p in enumerate(newer) if n not in partner}, partner)
    pairs = [_pair(older, newer, partner.get(number), number) for number in range(len(newer))]
    gone = sorted(set(range(len(older))) - set(partner.values()))
    return (*pairs, *(Pair(older=number + 1, newer=None, relation=Relation.DROPPED) for number in gone))


def _pair(older: Sequence[Patch], newer: Sequence[Patch], old: int | None, new: int) -> Pair:
    if old is None:
        return Pair(older=None, newer=new + 1, relation=Relation.ADDED)
    relation = Relation.SAME if _is_equal(older[old], newer[new]) else Relation.CHANGED
    return Pair(older=old + 1, newer=new + 1, relation=relation)


def _is_equal(older: Patch, newer: Patch) -> bool:
    return older.sha256 == newer.sha256


def _has_title(older: Patch, newer: Patch) -> bool:
    return title_of(older) == title_of(newer)


def _by_lines(older: dict[int, Patch], newer: dict[int, Patch], partner: dict[int, int]) -> None:
    """Pair what is left by the changed lines that two patches share, the most alike first."""
    if len(older) * len(newer) > _MOST_COMPARED:
        return
    changed = {(side, n): _changed(p) for side, group in ((0, older), (1, newer)) for n, p in group.items()}
    likeness = [(_likeness(changed[0, old], changed[1, new]), old, new) for old in older for new in newer]
    for share, old, new in sorted(likeness, key=lambda each: (-each[0], each[1:])):
        if share >= _ALIKE and new not in partner and old in older:
            partner[new] = old
            del older[old]


def _changed(patch: Patch) -> Counter[str]:
    lines = patch.text.split("\n")
    return Counter(line for line in lines if line[:1] in ("+", "-") and not line.startswith(("+++ ", "--- ")))


def _likeness(one: Counter[str], other: Counter[str]) -> float:
    either = (one | other).total()
    return (one & other).total() / either if either else 0.0
