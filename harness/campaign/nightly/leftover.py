"""What processes of a night left that were killed: runs that had ended, but were not yet written down as results."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path

from harness.campaign.nightly.executor import left_in
from harness.campaign.nightly.place import CELL, RUN, NightPlace, read_ended
from harness.errors import HarnessError
from harness.model.night import Ended, Night, Slot, State
from harness.report.formats import FORMATS
from harness.run.documents import write_documents


def finished(attempt: Path, slot: Slot, *, identity: str, asked: str) -> Ended | None:
    """Return what became of the cell that an attempt was made at; None if it did not come to its end, or to none that
    lasts. Its run may have been killed before its documents were written: they are made."""
    ended = read_ended(attempt / CELL)
    if ended is None or ended.slot != slot or not ended.state.is_done:
        tested = left_in(attempt)
        if tested.state is None:
            return None
        ended = Ended(
            slot=slot,
            state=tested.state,
            code=tested.code,
            board=tested.board,
            seconds=tested.seconds,
            run=tested.run,
            reason=tested.reason,
        )
    if ended.state is State.REFUSED:  # its input may be right now
        return None
    if ended.state is State.TESTED and not all((attempt / RUN / document.file).is_file() for document in FORMATS):
        with contextlib.suppress(HarnessError):  # a full disk: the results are there all the same
            write_documents(attempt / RUN)
    return dataclasses.replace(ended, identity=identity, asked=asked)


def take_over_all(night: Night, place: NightPlace) -> None:
    """Make results of all runs of a night that had ended: the night does not go on. Which kernels its cells had is not
    known any more, so a run stands for whatever was asked for."""
    done, attempts = place.done(), place.attempts()
    for slot in night.ended:
        for attempt, identity in attempts.get(slot.directory, ()) if slot not in done else ():
            if ended := finished(attempt, slot, identity=identity, asked=""):
                place.publish(attempt, ended)
                break
