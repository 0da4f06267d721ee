"""A worker's side of a lab: it runs cells on the boards of its host, and keeps what they leave until it is fetched.

Every run is a `harness run` in a process of its own, which holds the board's lock and its guard as always: if the
worker is killed, it ends, and its board is switched off."""

from __future__ import annotations

import os
import platform
import socket
import threading
from collections.abc import Collection, Sequence
from pathlib import Path

from harness import __version__, available, shortage
from harness.boards.inspection import what_is_wrong
from harness.boards.inventory import Inventory
from harness.boards.lease import is_only_here, lock_domain
from harness.campaign.lab.builds import Arrivals
from harness.campaign.lab.spool import RUN, Spool
from harness.campaign.nightly.executor import left_in
from harness.errors import HarnessError, InfraError
from harness.model.lab import Done, Gone, Offer, Order, Parcel
from harness.run.session import key_of_testcases
from harness.run.side_run import SideRuns
from harness.target.base import Say

BOARD_WAIT_S = 600  # for a board that somebody else uses, or whose earlier run is ending
_GRACE_S = 60.0  # for what ended runs leave


class _Job:
    """A run that goes on. `runs`: its process."""

    def __init__(self, runs: SideRuns) -> None:
        self.runs = runs
        self.is_over = threading.Event()
        self.was_ended = False
        self.done: Done | None = None
        self.error: HarnessError | None = None


class LabHost:
    """`boards`: those of the inventory that are offered. `shared`: options of `harness run` that all runs share. All
    methods may be called by several threads at once."""

    def __init__(
        self, inventory: Inventory, boards: Sequence[str], *, shared: Sequence[object], spool: Spool, builds: Arrivals,
        say: Say,
    ) -> None:  # fmt: skip
        self.boards = tuple(boards)
        self._inventory = inventory
        self._shared = shared
        self._spool = spool
        self._builds = builds
        self._say = say
        self._lock = threading.Lock()
        self._jobs: dict[str, _Job] = {}
        self._is_ending = False
        self._testcases = key_of_testcases()

    def offer(self) -> Offer:
        self._check_stays()
        architecture = platform.machine()
        with self._lock:
            running = tuple(self._jobs)
        return Offer(
            host=socket.gethostname(),
            harness=__version__,
            testcases=self._testcases,
            locks=lock_domain(),
            boards={name: is_only_here(self._inventory.board(name)) for name in self.boards},
            kept=(*running, *self._spool.keys()),
            cpus=available.cpus(),
            architecture=architecture,
            kvm=architecture == "aarch64" and os.access("/dev/kvm", os.R_OK | os.W_OK),
        )

    def begin(self) -> None:
        """A connection begins: remove what earlier ones left on its way, and what nobody has fetched for long."""
        self._builds.clear()
        self._spool.clear()

    # -- builds -------------------------------------------------------------------------------------------------------

    def has_build(self, address: str) -> bool:
        return self._builds.get(address) is not None

    def begin_build(self, parcel: Parcel) -> str:
        return self._builds.begin(parcel)

    def add_to_build(self, name: str, offset: int, data: bytes) -> None:
        self._builds.add(name, offset, data)

    def complete_build(self, name: str, address: str) -> None:
        self._builds.complete(name, address, self._say)

    # -- cells --------------------------------------------------------------------------------------------------------

    def run(self, order: Order) -> Done:
        """Run a cell, or wait for its run that goes on already, or return at once how it ended that is done. Raises
        HarnessError."""
        with self._lock:
            self._check_stays()
            job = self._jobs.get(order.key)
            if job is None:
                job = self._jobs[order.key] = _Job(SideRuns(self._shared))
                # A thread of its own, which stays as long as the run: the run is told when the thread that has
                # started it ends, and this one here ends when the connection does.
                # A thread that waits for somebody else's lock must not keep the process from ending.
                name = f"cell on {order.board}"
                threading.Thread(target=self._work, args=(order, job), name=name, daemon=True).start()
        job.is_over.wait()
        if job.error:
            raise job.error
        assert job.done
        return job.done

    def read(self, key: str, offset: int) -> bytes:
        return self._spool.read(key, offset)

    def drop(self, key: str) -> None:
        self._spool.drop(key)

    def end(self, keys: Collection[str]) -> None:
        """End runs that go on; each records what it has."""
        with self._lock:
            jobs = [self._jobs[key] for key in keys if key in self._jobs]
            for job in jobs:
                job.was_ended = True
        threads = [threading.Thread(target=job.runs.stop) for job in jobs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def probe(self, board: str) -> str:
        """Look at a board without using it; return what is wrong with it, empty if nothing is."""
        return what_is_wrong(self._inventory.entry(board))

    def stop(self) -> None:
        """End all runs, and begin none any more. What they leave is kept."""
        with self._lock:
            self._is_ending = True
            jobs = dict(self._jobs)
        self.end(jobs)
        for job in jobs.values():
            job.is_over.wait(_GRACE_S)

    def _work(self, order: Order, job: _Job) -> None:
        try:
            with self._spool.held(order.key):
                job.done = self._spool.finished(order.key) or self._cut_off(order) or self._run(order, job)
        except HarnessError as error:
            job.error = error
        except OSError as error:  # no process, no descriptor, no room for what it says
            wrong = InfraError(f"the run can't be started on {socket.gethostname()}: {error.strerror}")
            job.error = shortage.of(error, where=self._spool.place(order.key)) or wrong
        except Exception as error:
            job.error = InfraError(f"internal error of the worker: {type(error).__name__}: {error}; please report this")
        finally:
            with self._lock:
                self._jobs.pop(order.key, None)
            job.is_over.set()

    def _cut_off(self, order: Order) -> Done | None:
        """Keep a run that came to its end, but whose worker was killed before it could do that; None if there is
        none."""
        left = left_in(self._spool.place(order.key))
        if not left.is_over:
            return None
        return self._spool.finish(order.key, code=left.code, last_line=left.reason, was_ended=False)

    def _run(self, order: Order, job: _Job) -> Done:
        build = self._builds.get(order.build)
        if build is None:
            raise Gone(f"build {order.build[:12]} is not on {socket.gethostname()} any more; it is sent again")
        if order.board not in self.boards:
            raise InfraError(f"expected one of the boards {', '.join(self.boards)}, found {order.board!r}")
        place = self._spool.begin(order.key)
        words = ["--build", build.directory, "--board", order.board, "--wait", BOARD_WAIT_S, *order.words]
        words += [word for path in _written(order.expectations, place) for word in ("--expectations", path)]
        self._say(f"{order.board}: a cell begins")
        ended = job.runs.run_words(words, place / RUN)
        was_ended = (job.was_ended or self._is_ending) and not left_in(place, code=ended.code).is_over
        done = self._spool.finish(order.key, code=ended.code, last_line=ended.last_line, was_ended=was_ended)
        self._say(f"{order.board}: {'it was ended' if was_ended else f'exit code {ended.code}'}: {ended.last_line}")
        if was_ended:
            self._check_stays()
        return done

    def _check_stays(self) -> None:
        if self._is_ending:
            raise Gone(f"the worker on {socket.gethostname()} ends")


def _written(texts: Sequence[str], place: Path) -> list[Path]:
    paths = [place / f"expectations-{number}.yaml" for number, _ in enumerate(texts)]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text)
    return paths
