"""A night is killed at every step of its work, and started again."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path

from harness.model.night import State
from harness.run.documents import read_results
from tests.fakenight import Lab
from tests.faults.catalogue import Blame, fault
from tests.faults.killing import NIGHT, killed


@fault(
    "SIGKILL after any write, sync or rename of a night, which is then started again", where="killed",
    blame=Blame.NOBODY, survives="every cell that was done, which is not done again; all others are done",
)  # fmt: skip
def test_a_night_that_is_killed_anywhere_goes_on(tmp_path: Path) -> None:
    steps = killed("night", signal.SIGKILL, tmp_path)
    assert len(steps) > 40
    assert {"rename", "replace", "write", "sync", "mkdir"} <= {each["what"].partition(" ")[0] for each in steps}
    for each in steps:
        directory, where = tmp_path / str(each["step"]), f"{each['step']}: {each['what']}"
        assert each["status"] == -signal.SIGKILL, where
        tested = directory / "tested"
        lab = Lab(directory, plan=NIGHT, notes=tested, now=1_800_000_600.0)
        nights = lab.place.nights()
        made, here = lab.play()
        ended = {str(row.ended.slot): row.ended for row in made.rows}
        assert len(ended) == 3, where
        assert {end.state for end in ended.values()} == {State.TESTED}, where
        assert made.exit_code == 0, where
        for end in ended.values():
            assert read_results(here.cell(end.slot) / "run").is_complete, where
        was_over = any(night.finished for night in nights)  # then another one began, as it should
        times = Counter(tested.read_text().splitlines())
        assert set(times.values()) == {1 + was_over}, f"{where}: {times}"
        assert len(lab.place.nights()) == 1 + was_over, where
