"""The programs of a lab that boots nothing.

`python -m tests.labprograms worker …` is `harness worker …`, but for the runs that it starts: they are
`python -m tests.labprograms run …`, which hold a board with a real lease and a real guard, switch its power, and leave
results. $FAKE_LAB names the lab's directory (`tests/fakelab.py`)."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from harness import interruption

TESTS = ("testcases/t/test_a.py::test_a", "testcases/t/test_b.py::test_b")


def note(board: str, what: str) -> None:
    line = f"{time.time():.6f} {board} {what} {os.getpid()}\n".encode()
    with (Path(os.environ["FAKE_LAB"]) / "journal").open("ab", buffering=0) as journal:
        journal.write(line)  # in one piece


def run(words: list[str]) -> int:
    """A stand-in for `harness run`."""
    from harness.boards.inventory import read_inventory
    from harness.boards.lease import acquire
    from harness.build.finished import load_build
    from harness.target.holding.guard import Guard
    from harness.target.power import switch_of

    options = dict(zip(words[::2], words[1::2], strict=False))
    board, out = options["--board"], Path(options["--out"])
    load_build(Path(options["--build"]))
    spec = read_inventory(Path(options["--boards"])).board(board)
    with acquire(spec, wait=float(options["--wait"]), say=lambda _: None) as held:
        guard, switch = Guard(held), switch_of(held.power)
        try:
            switch.on()
            note(board, "begins")
            _wait()
        except KeyboardInterrupt:
            note(board, "interrupted")
            raise
        finally:
            switch.off()
            guard.release()
        _leave_results(out, board)
    note(board, "passed")
    print("OK: 2 PASS")
    return 0


def _wait() -> None:
    lab = Path(os.environ["FAKE_LAB"])
    seconds = lab / "seconds"
    deadline = time.monotonic() + (float(seconds.read_text()) if seconds.exists() else 0.0)
    while (lab / "hold").exists() or time.monotonic() < deadline:
        time.sleep(0.02)


def _leave_results(out: Path, board: str) -> None:
    from harness.model.event import Finished, Planned, RunBegun, RunEnded
    from harness.model.record import BoardRecord, KernelRecord, RunRecord
    from harness.model.result import EndKind, Result, RunEnd, Verdict
    from harness.parse.events import event_to_json

    now = time.time()
    record = RunRecord(
        id=f"{now:.6f}-{os.getpid()}",
        kernel=KernelRecord(release="7.3.4", key="k"),
        board=BoardRecord(name=board),
        suites=("testcases",),
    )
    results = [Result(test=test, verdict=Verdict.PASS, seconds=1.0) for test in TESTS]
    out.mkdir()
    with (out / "events.jsonl").open("w") as file:
        for event in (
            RunBegun(time=now, record=record),
            Planned(time=now, tests=TESTS),
            *(Finished(time=now + 1, result=result) for result in results),
            RunEnded(time=now + 2, end=RunEnd(kind=EndKind.COMPLETE)),
        ):
            file.write(f"{event_to_json(event)}\n")


def main() -> int:
    if sys.argv[1] == "run":
        interruption.watch()
        return run([word for word in sys.argv[2:] if word != "--no-history"])  # the others have a value each
    from harness.cli import main as command
    from harness.run import side_run

    side_run._HARNESS = (sys.executable, "-m", "tests.labprograms")
    return command.main()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        sys.exit(130)
