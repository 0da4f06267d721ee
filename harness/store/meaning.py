"""What the file's numbers and texts mean. What a newer harness wrote and this one does not know is a UserError."""

from __future__ import annotations

import functools

from harness.errors import UserError
from harness.model.fault import FaultSignature
from harness.model.result import Condition, Verdict
from harness.store.ingest import VERDICTS


def verdict_of(number: int) -> Verdict:
    if not 0 <= number < len(VERDICTS):
        raise _newer(f"the verdict {number}")
    return VERDICTS[number]


def condition_of(text: str) -> Condition:
    try:
        return Condition(text)
    except ValueError:
        raise _newer(f"the condition {text!r}") from None


@functools.lru_cache(maxsize=4096)
def signature_of(text: str) -> FaultSignature:
    try:
        return FaultSignature.parse(text)
    except ValueError:
        raise _newer(f"the fault {text!r}") from None


def _newer(what: str) -> UserError:
    return UserError(f"the history has {what}, which this harness does not know: a newer one wrote it; use that")
