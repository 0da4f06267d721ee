"""The executor of many machines: builds in this process, runs where the boards are."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import socket
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

from harness.campaign.history import remember
from harness.campaign.lab import parcels
from harness.campaign.lab.builds import address_of
from harness.campaign.lab.engine import Lab, Member
from harness.campaign.lab.spool import LOG
from harness.campaign.nightly.executor import Tested, left_in
from harness.campaign.nightly.local import words_of
from harness.campaign.nightly.place import RUN
from harness.errors import InfraError, UserError
from harness.limits import LAB_RESULT_BYTES
from harness.model.kernel import Build
from harness.model.lab import Done, Gone, Offer, Order, Parcel
from harness.model.night import Cell
from harness.products import sync
from harness.run.documents import read_results
from harness.run.session import key_of_testcases
from harness.target.base import Say

WORKER_WAIT_S = 120.0  # for a worker that offers a board
MOST_LOSSES = 4  # of workers that run the same cell
_CALL_S = 300.0  # for what takes a worker a moment, and a chunk a slow line
_PROBE_S = 600.0
_UNPACK_S = 1800.0
_ENDING_S = 90.0  # for runs that were asked to end


class Builder(Protocol):
    """Makes builds on this host."""

    def build(self, cell: Cell) -> float | None: ...

    def built(self, key: str) -> Build: ...

    def release(self, build: str) -> None: ...

    def stop(self) -> None: ...


class LabExecutor:
    """See Executor. `local` makes the builds. `scratch`: a directory for what is on its way. `history`: takes the runs
    in; None: the usual one."""

    def __init__(
        self, local: Builder, lab: Lab, *, expectations: Sequence[str], history: Path | None, scratch: Path,
        say: Say,
    ) -> None:  # fmt: skip
        self._local = local
        self._lab = lab
        self._expectations = tuple(expectations)
        self._history = history
        self._scratch = scratch
        self._say = say
        self._testcases = key_of_testcases()
        self._turn = threading.Lock()
        self._homes: dict[str, Offer] = {}
        self._told: set[str] = set()
        self._packing: dict[str, threading.Lock] = {}
        self._packed: dict[str, Parcel] = {}
        self._delivering: dict[tuple[str, str], threading.Lock] = {}
        self._fetched: set[str] = set()
        self._running: dict[str, Member] = {}
        self._stopped = False

    def build(self, cell: Cell) -> float | None:
        return self._local.build(cell)

    def test(self, cell: Cell, board: str, place: Path) -> Tested:
        directory = self._local.built(cell.build).directory
        address = address_of(directory)
        order = Order(
            key=_key_of(cell, place),
            build=address,
            board=board,
            words=tuple(map(str, words_of(cell))),
            expectations=self._expectations,
        )
        for _ in range(MOST_LOSSES):
            keeper = self._keeper_of(order.key)
            member = keeper or self._member_for(board)
            try:
                if not keeper:
                    self._deliver(directory, address, member)
                done = self._run(order, member, uses="" if keeper else board)
                self._fetch(order.key, done, member, place)
            except Gone as error:
                self._lab.forget(member)
                self._say(f"{cell.slot}: {error.message}")
                if self._stopped:
                    raise
                continue
            return self._taken_in(place, done, "" if keeper else board)
        raise InfraError(f"{MOST_LOSSES} workers in a row were lost while they ran this cell")

    def release(self, build: str) -> None:
        """See Releasing. Hosts keep what was sent to them, within the limits of their caches."""
        address = address_of(self._local.built(build).directory)
        self._local.release(build)
        with self._turn:
            self._packed.pop(address, None)
        with contextlib.suppress(OSError):
            (self._scratch / f"{address}{parcels.SUFFIX}").unlink(missing_ok=True)

    def probe(self, board: str) -> str:
        members = self._offering(board)
        if not members:
            return "no worker offers it"
        try:
            return str(self._lab.call(members[0], "probe", board, limit=_PROBE_S))
        except InfraError as error:
            return error.message

    def stop(self) -> None:
        """See Executor. Runs have a limit for recording what they have; it is fetched as always."""
        with self._turn:
            self._stopped = True
            running = dict(self._running)
        self._local.stop()
        self._lab.wake()
        ending = [
            threading.Thread(target=self._end, args=(key, member), daemon=True) for key, member in running.items()
        ]
        for thread in ending:
            thread.start()

    # -- where ------------------------------------------------------------------------------------------------------

    def _keeper_of(self, key: str) -> Member | None:
        """Return the worker that runs a cell already or has its results, if any: the night was killed meanwhile."""
        if key in self._fetched:
            return None
        return next((member for member in self._lab.members() if key in member.offer.kept), None)

    def _member_for(self, board: str) -> Member:
        """Return the worker that runs a cell; waits for one. Raises InfraError if there is none."""
        self._lab.wait_until(lambda: self._stopped or bool(self._offering(board)), WORKER_WAIT_S)
        if self._stopped:
            raise InfraError("the night was ended")
        members = self._offering(board)
        if members:
            return members[0]
        raise InfraError(f"no worker offers this board, and none came within {WORKER_WAIT_S:.0f} s")

    def _offering(self, board: str) -> list[Member]:
        """The workers that may run a cell on a board, the best first: those whose kernels need no emulation, then those
        with the most CPUs. A board that only the locks of one host keep from being used twice belongs to the host that
        first offers it."""
        found = []
        for member in self._lab.members():
            if board in member.offer.boards and self._is_like_us(member) and self._is_home(board, member):
                found.append(member)
        busy = [member.name for member in list(self._running.values())]
        return sorted(found, key=lambda each: (busy.count(each.name), not each.offer.kvm, -each.offer.cpus, each.name))

    def _is_like_us(self, member: Member) -> bool:
        """Whether it runs the tests that the plan's cells stand for."""
        if member.offer.testcases == self._testcases:
            return True
        self._say_once(
            f"the worker on {member.offer.host} is left out: it has other testcases (harness {member.offer.harness}); "
            "install the same harness there as here"
        )
        return False

    def _is_home(self, board: str, member: Member) -> bool:
        if not member.offer.boards[board]:
            return True
        present = {each.offer.locks for each in self._lab.members()}
        with self._turn:
            home = self._homes.setdefault(board, member.offer)
            is_gone = home.locks not in present
            if home.host == member.offer.host and is_gone:  # it has booted: nothing there uses the board any more
                self._homes[board] = home = member.offer
        if home.locks == member.offer.locks:
            return True
        self._say_once(
            f"{member.offer.host}: its board {board} is left out: another host offers it, too, and nothing would keep "
            "both from using it at once; leave it to one of them, or give it a labgrid place"
        )
        return False

    def _say_once(self, text: str) -> None:
        with self._turn:
            is_new = text not in self._told
            self._told.add(text)
        if is_new:
            self._say(text)

    # -- there and back -----------------------------------------------------------------------------------------------

    def _deliver(self, directory: Path, address: str, member: Member) -> None:
        """Send a build to a host that does not have it, once whoever asks."""
        with self._turn:
            turn = self._delivering.setdefault((address, member.offer.locks), threading.Lock())
        with turn:
            if self._lab.call(member, "has_build", address, limit=_CALL_S):
                return
            archive, parcel = self._archive(directory, address)
            name = self._lab.call(member, "begin_build", parcel, limit=_CALL_S)
            for offset in range(0, parcel.size, parcels.CHUNK_BYTES):
                data = parcels.read_chunk(archive, offset)
                self._lab.call(member, "add_to_build", name, offset, data, limit=_CALL_S)
            self._lab.call(member, "complete_build", name, address, limit=_UNPACK_S)

    def _archive(self, directory: Path, address: str) -> tuple[Path, Parcel]:
        """Pack a build, once for all hosts."""
        with self._turn:
            turn = self._packing.setdefault(address, threading.Lock())
        archive = self._scratch / f"{address}{parcels.SUFFIX}"
        with turn:
            if address not in self._packed:
                self._packed[address] = parcels.pack(directory, archive, name="build")
            return archive, self._packed[address]

    def _run(self, order: Order, member: Member, *, uses: str) -> Done:
        with self._turn:
            if self._stopped:
                raise InfraError("the night was ended")
            self._running[order.key] = member
        try:
            done = self._lab.call(member, "run", order, limit=None, board=uses)
        finally:
            with self._turn:
                del self._running[order.key]
        assert isinstance(done, Done)
        return done

    def _fetch(self, key: str, done: Done, member: Member, place: Path) -> None:
        """Have the files of a run in `place`, whole or not at all; then the worker need not keep them."""
        where = f"results from {member.offer.host}"
        read: Callable[[int], bytes] = partial(self._read, member, key)
        archive, unpacked = place / f".{RUN}{parcels.SUFFIX}", place / f".{RUN}.partial"
        try:
            parcels.collect(done.results, archive, read, limit=LAB_RESULT_BYTES, place=where)
            shutil.rmtree(unpacked, ignore_errors=True)
            parcels.unpack(archive, unpacked, place=where, say=self._say)
            for name in (LOG, RUN):
                if (unpacked / name).exists():
                    (unpacked / name).rename(place / name)
            sync(place)
        except UserError as error:  # of theirs, not of the user's
            raise InfraError(error.message, details=error.details) from None
        finally:
            archive.unlink(missing_ok=True)
            shutil.rmtree(unpacked, ignore_errors=True)
        with self._turn:
            self._fetched.add(key)
        self._drop(member, key)

    def _read(self, member: Member, key: str, offset: int) -> bytes:
        return bytes(self._lab.call(member, "read", key, offset, limit=_CALL_S))

    def _drop(self, member: Member, key: str) -> None:
        try:
            self._lab.call(member, "drop", key, limit=_CALL_S)
        except InfraError as error:  # they are here; there, they are removed after a while
            self._say(f"what was fetched stays on {member.offer.host}: {error.message}")

    def _taken_in(self, place: Path, done: Done, board: str) -> Tested:
        try:
            results = read_results(place / RUN)
        except UserError:
            pass
        else:
            told = remember(results, place / RUN, history=self._history)
            if told.startswith("not "):
                self._say(f"{board}: {told}")
        return left_in(place, code=done.code, board=board, reason=done.last_line if done.code else "")

    def _end(self, key: str, member: Member) -> None:
        try:
            self._lab.call(member, "end", [key], limit=_ENDING_S)
        except InfraError as error:
            self._say(f"a run on {member.offer.host} goes on: {error.message}")
            self._lab.forget(member)  # nobody waits for it


def _key_of(cell: Cell, place: Path) -> str:
    """Identify a cell of a night, whichever attempt at it this is: so a night that was killed finds the results of runs
    that came to their end meanwhile."""
    night = place.absolute().parent.parent
    told = repr([socket.gethostname(), str(night), cell.slot.directory, cell.identity])
    return hashlib.sha256(told.encode()).hexdigest()
