"""Whether a failure is worth another repetition, and what the repetitions say (docs/verdicts.md)."""

from __future__ import annotations

from dataclasses import dataclass

from harness.model.comparison import Tally
from harness.report import evidence

TOLD = 0.98  # the probability from which repeating ends: it is worse
LIKELY = 0.5  # from which a comparison fails a job
DROPPED = 0.005  # below which repeating ends: nothing shows that it is worse
MOST = 40  # repetitions
_LEAST = 8  # outcomes before a failure is dropped: the first one is no fair sample, because it is why we look


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What is known so far of a test that failed. `before`: its passes and failures with the kernels before; `since`:
    with this one, including the failure that started this."""

    before: Tally
    since: Tally

    @property
    def probability(self) -> float:
        """That the test fails more often now than before."""
        return evidence.worse_probability(self.before, self.since)

    @property
    def is_decided(self) -> bool:
        """Whether more repetitions would not change the answer, or there were enough."""
        if self.since.runs > MOST:
            return True
        probability = self.probability
        return probability >= TOLD or (self.since.runs >= _LEAST and probability < DROPPED)

    @property
    def is_regression(self) -> bool:
        """Whether the kernel is more likely worse than not."""
        return self.probability >= LIKELY
