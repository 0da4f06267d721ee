"""The scheduler for pytest-xdist: longest tests first; tests that measure time last and alone."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from harness.run.collecting import Planned
from harness.run.units import is_timed

_LOOKAHEAD = 2  # a worker starts a test once it knows the next one, or that there is none


class Node(Protocol):
    """The part of xdist's WorkerController that is used here."""

    @property
    def shutting_down(self) -> bool: ...

    def send_runtest_some(self, indices: Sequence[int]) -> None: ...

    def shutdown(self) -> None: ...


class LongestFirst:
    """xdist's Scheduling protocol for `count` workers. `planned`: every test to run, by its pytest node id; `seconds`:
    the expected duration of a test. Tests of a group go to one worker together. `share_cpus`: whether a busy worker
    disturbs one that measures time."""

    def __init__(
        self,
        count: int,
        planned: Mapping[str, Planned],
        seconds: Callable[[str], float],
        *,
        share_cpus: bool = True,
    ) -> None:
        self._count = count
        self._planned = planned
        self._seconds = seconds
        self._share_cpus = share_cpus
        self._gave_up = False  # whether any worker has given up
        self._pending: dict[Node, list[int]] = {}
        self._collections: dict[Node, list[str]] = {}
        self._ids: list[str] = []
        self._waiting: deque[list[int]] = deque()
        self._alone: deque[list[int]] = deque()
        self._last: Node | None = None  # the worker for the tests that run alone

    # -- what xdist asks ----------------------------------------------------------------------------------------

    @property
    def nodes(self) -> list[Node]:
        """The workers."""
        return list(self._pending)

    @property
    def collection_is_completed(self) -> bool:
        """Whether every initial worker has reported its tests."""
        return len(self._collections) >= self._count

    @property
    def tests_finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.collection_is_completed and (not self.has_pending or self._is_stranded)

    @property
    def has_pending(self) -> bool:
        """Whether tests are waiting or running."""
        return bool(self._waiting or self._alone or any(self._pending.values()))

    def add_node(self, node: Node) -> None:
        """A worker has started."""
        self._pending[node] = []

    def add_node_collection(self, node: Node, collection: Sequence[str]) -> None:
        """A worker has reported its tests."""
        self._collections[node] = list(collection)

    def mark_test_complete(self, node: Node, item_index: int, duration: float = 0) -> None:
        """A worker has run a test."""
        self._pending[node].remove(item_index)
        self._give()

    def mark_test_pending(self, item: str) -> None:
        """A test must run again, because its worker died."""
        number = self._ids.index(item)
        group = next(
            (rest for rest in (*self._waiting, *self._alone) if self._group(rest[0]) == self._group(number)), None
        )
        if group is None:
            self._put_back([number])
        else:
            group.insert(0, number)
        self._give()

    def remove_pending_tests_from_node(self, node: Node, indices: Sequence[int]) -> None:
        """A worker has returned tests that it has not run."""
        given = [number for number in self._pending[node] if number in indices]
        self._pending[node] = [number for number in self._pending[node] if number not in indices]
        for group in reversed(self._by_group(given)):
            self._put_back(group)
        self._give()

    def give_up(self, node: Node) -> None:
        """A worker is about to end without having started its remaining tests, which other workers must run."""
        self._gave_up = True
        for group in reversed(self._by_group(self._pending.get(node, []))):
            self._put_back(group)
        if node in self._pending:
            self._pending[node] = []

    def remove_node(self, node: Node) -> str | None:
        """A worker has ended; if it died, returns the test that it was running."""
        pending = self._pending.pop(node)
        self._last = None if self._last is node else self._last
        if not pending:
            self._give()
            return None
        for group in reversed(self._by_group(pending[1:])):
            self._put_back(group)
        # its other tests are kept until the running one is decided, so that the group stays together
        return self._ids[pending[0]]

    def schedule(self) -> None:
        """Every worker, or a new one, has reported its tests."""
        if not self._ids:
            self._ids = next(iter(self._collections.values()))
            for group in self._groups():
                (self._alone if self._is_alone(group) else self._waiting).append(group)
        self._give()

    # -- how it is done -----------------------------------------------------------------------------------------

    @property
    def _is_stranded(self) -> bool:
        """Whether tests were returned when no worker was left to accept them; the caller then starts another round."""
        return self._gave_up and all(node.shutting_down for node in self._pending)

    def _groups(self) -> list[list[int]]:
        """The tests' numbers by group, longest group first."""
        wanted = [number for number, test in enumerate(self._ids) if test in self._planned]
        return sorted(self._by_group(wanted), key=self._expected, reverse=True)

    def _group(self, number: int) -> str:
        return self._planned[self._ids[number]].group

    def _by_group(self, numbers: Sequence[int]) -> list[list[int]]:
        groups: dict[str, list[int]] = {}
        for number in numbers:
            groups.setdefault(self._group(number), []).append(number)
        return list(groups.values())

    def _expected(self, group: list[int]) -> float:
        return sum(self._seconds(self._planned[self._ids[number]].test) for number in group)

    def _is_alone(self, group: list[int]) -> bool:
        return self._share_cpus and any(is_timed(self._planned[self._ids[number]].test) for number in group)

    def _put_back(self, numbers: list[int]) -> None:
        (self._alone if self._is_alone(numbers) else self._waiting).appendleft(numbers)

    def _give(self) -> None:
        """Give every worker enough tests, and end those for which nothing is left."""
        if not self._ids:
            return  # the tests are not known yet
        for enough in range(1, _LOOKAHEAD + 1):  # every worker gets a first one before any gets a second one
            for node, pending in self._pending.items():
                group = self._next_for(node) if len(pending) < enough and not node.shutting_down else None
                if group:
                    pending += group
                    with contextlib.suppress(OSError):  # it has died, which xdist will report
                        node.send_runtest_some(group)

    def _next_for(self, node: Node) -> list[int] | None:
        """The next group for `node`; None if it has to wait, or has been ended."""
        pending = self._pending[node]
        others = [tests for other, tests in self._pending.items() if other is not node and tests]
        if any(self._is_alone(tests) for tests in others):
            if pending:  # if nothing more follows it starts what it has, and a test that runs alone waits for that
                node.shutdown()
            return None
        if others and pending and self._is_alone(pending):
            return None  # another test would start it
        if self._waiting:
            return self._waiting.popleft()
        if not self._alone and node is not self._last:
            node.shutdown()
            return None
        self._last = self._last or node
        if node is not self._last:
            node.shutdown()
            return None
        if self._alone:
            group = self._alone.popleft()
            if others and group[1:]:  # given two, it would start the first one
                self._alone.appendleft(group[1:])
            return group[:1] if others else group
        node.shutdown()
        return None
