"""Writers and readers of a history are killed: `python -m tests.faults.history_kills`, but shorter."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from harness.campaign.history import add
from tests.faults import history_kills
from tests.faults.catalogue import Blame, fault
from tests.faults.history_kills import Played, play


@fault("SIGKILL of one of three writers and two readers of a history", where="killed",
       blame=Blame.NOBODY, survives="every acknowledged run; the file, equal to one made anew")  # fmt: skip
def test_killed_writers_and_readers_lose_nothing(tmp_path: Path) -> None:
    played = play(tmp_path, kills=6, seed=3, longest_s=0.05)
    assert played.problems == []
    assert (played.kills, len(played.acknowledged) >= 6, played.reads > 0) == (6, True, True)


def test_what_is_lost_or_changed_would_be_told(tmp_path: Path) -> None:
    """That the check above can fail."""
    runs = tmp_path / "runs"
    runs.mkdir()
    for number in range(3):
        history_kills._record(runs / f"run-{number}", f"run-{number}", began=1e9 + number)
    add(tmp_path / "h", sorted(runs.iterdir()))
    with sqlite3.connect(tmp_path / "h") as other:
        other.execute("PRAGMA foreign_keys = ON")
        other.execute("DELETE FROM runs WHERE name = 'run-1'")
        other.execute("UPDATE results SET verdict = 3 WHERE run = 3 AND test = 5")
    played = Played(acknowledged={"run-0", "run-1"})
    history_kills._check(tmp_path / "h", runs, tmp_path / "again", played)
    assert played.problems[:2] == [
        "run-1: lost",
        "results, as they were: 2 rows differ from a history that was made again",
    ]
