"""Which worker runs what: longest first, groups together, what measures time alone and last."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from harness.run.collecting import FILES, Planned
from harness.run.units import is_timed
from harness.run.workers.schedule import LongestFirst

TIMED = "selftests/ftrace/test.d/tracer/wakeup.tc"


class Worker:
    """What xdist's controller of a worker shows; runs a test when it knows the next one, or that there is none."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.queue: list[int] = []
        self.shutting_down = False

    def send_runtest_some(self, indices: Sequence[int]) -> None:
        assert not self.shutting_down
        self.queue += indices

    def shutdown(self) -> None:
        self.shutting_down = True

    @property
    def running(self) -> int | None:
        """The test it runs now."""
        return self.queue[0] if len(self.queue) > 1 or (self.queue and self.shutting_down) else None


class Run:
    """A run of tests that take as long as `seconds` says, one after the other in simulated time."""

    def __init__(self, seconds: dict[str, float], *, workers: int, groups: dict[str, str] | None = None) -> None:
        self.seconds = seconds
        self.ids = list(seconds)
        planned = {test: Planned(test, (groups or {}).get(test, test)) for test in seconds}
        self.schedule = LongestFirst(workers, planned, lambda test: seconds[test])
        self.workers: list[Worker] = []
        self.left: dict[Worker, float] = {}
        self.order: list[tuple[str, str]] = []  # worker, test: as they started
        self.beside: dict[str, set[str]] = {test: set() for test in seconds}
        self.now = 0.0
        for number in range(workers):
            self.add(f"w{number}")

    def add(self, name: str) -> Worker:
        worker = Worker(name)
        self.workers.append(worker)
        self.schedule.add_node(worker)
        self.schedule.add_node_collection(worker, self.ids)
        if self.schedule.collection_is_completed:
            self.schedule.schedule()
        return worker

    def step(self) -> bool:
        """Go on to the next end of a test; False where none runs."""
        for worker in self.workers:
            if worker.running is not None and worker not in self.left:
                test = self.ids[worker.running]
                self.left[worker] = self.seconds[test]
                self.order.append((worker.name, test))
        running = {self.ids[worker.queue[0]] for worker in self.left}
        for test in running:
            self.beside[test] |= running - {test}
        if not self.left:
            return False
        worker = min(self.left, key=lambda each: self.left[each])
        passed = self.left.pop(worker)
        self.now += passed
        self.left = {other: left - passed for other, left in self.left.items()}
        done = worker.queue.pop(0)
        self.schedule.mark_test_complete(worker, done)
        return True

    def die(self, worker: Worker) -> str | None:
        self.workers.remove(worker)
        self.left.pop(worker, None)
        return self.schedule.remove_node(worker)

    def finish(self) -> None:
        while self.step():
            pass
        assert self.schedule.tests_finished
        assert all(worker.shutting_down for worker in self.workers)


def test_longest_tests_start_first() -> None:
    run = Run({"a": 1.0, "b": 9.0, "c": 5.0, "d": 3.0, "e": 2.0}, workers=1)
    run.finish()
    assert [test for _, test in run.order] == ["b", "c", "d", "e", "a"]


def test_every_test_runs_once_on_any_number_of_workers() -> None:
    for workers in range(1, 8):
        run = Run({f"t{number}": float(number % 5 + 1) for number in range(20)}, workers=workers)
        run.finish()
        assert sorted(test for _, test in run.order) == sorted(run.ids)


def test_workers_end_at_about_the_same_time() -> None:
    run = Run({f"t{number}": float(number + 1) for number in range(30)}, workers=3)
    run.finish()
    assert run.now <= sum(run.seconds.values()) / 3 + 4.0


def test_a_group_stays_together_and_in_order() -> None:
    groups = {"b1": "b", "b2": "b", "b3": "b"}
    run = Run({"a": 9.0, "b1": 1.0, "b2": 1.0, "b3": 1.0, "c": 2.0}, workers=2, groups=groups)
    run.finish()
    assert len({worker for worker, test in run.order if test in groups}) == 1
    assert [test for _, test in run.order if test in groups] == ["b1", "b2", "b3"]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_what_measures_time_runs_last_and_alone(workers: int) -> None:
    timed = [TIMED, "selftests/ftrace/test.d/preemptirq/irqsoff_tracer.tc"]
    run = Run({timed[0]: 20.0, "a": 3.0, "b": 9.0, timed[1]: 30.0, "c": 1.0, "d": 1.0}, workers=workers)
    run.finish()
    assert sorted(test for _, test in run.order) == sorted(run.ids)
    assert [test for _, test in run.order][-2:] == [timed[1], timed[0]]
    assert run.beside[timed[0]] == run.beside[timed[1]] == set()


def test_what_measures_time_is_alone_also_after_a_worker_died() -> None:
    run = Run({TIMED: 5.0, "long": 30.0, "m": 9.0, "n": 8.0, "p": 7.0, "q": 6.0, "r": 5.0}, workers=3)
    timed = run.ids.index(TIMED)
    while not any(timed in worker.queue for worker in run.workers):
        assert run.step()
    assert run.step()
    holder = next(worker for worker in run.workers if timed in worker.queue)
    assert [run.ids[number] for number in holder.queue] == ["r", TIMED]
    test = run.die(next(worker for worker in run.workers if run.ids.index("q") in worker.queue))
    assert test
    run.schedule.mark_test_pending(test)
    run.finish()
    assert run.beside[TIMED] == set()
    assert {test for _, test in run.order} == set(run.ids)


def test_a_worker_that_has_died_unnoticed_ends_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run({f"t{number}": float(number + 1) for number in range(6)}, workers=2)
    asked: list[int] = []

    def gone(indices: Sequence[int]) -> None:
        asked.extend(indices)
        raise OSError("cannot send (already closed?)")

    dead = min(run.workers, key=lambda worker: run.seconds[run.ids[worker.queue[0]]])  # the first that ends a test
    monkeypatch.setattr(dead, "send_runtest_some", gone)
    run.step()
    assert asked
    test = run.die(dead)
    assert test
    run.schedule.mark_test_pending(test)
    run.finish()
    assert {test for _, test in run.order} == set(run.ids)


def test_only_what_measures_time() -> None:
    run = Run({TIMED: 3.0}, workers=2)
    run.finish()
    assert [test for _, test in run.order] == [TIMED]


def test_tests_that_a_worker_gives_back_run_all_the_same_and_once() -> None:
    run = Run({f"t{number}": float(number + 1) for number in range(8)}, workers=2)
    run.step()
    giver = run.workers[0]
    back = giver.queue[1:]
    assert back
    giver.queue = giver.queue[:1]
    run.schedule.remove_pending_tests_from_node(giver, back)
    assert not giver.shutting_down
    run.finish()
    assert sorted(test for _, test in run.order) == sorted(run.ids)


def test_a_dead_workers_tests_go_to_others() -> None:
    run = Run({f"t{number}": float(number + 1) for number in range(8)}, workers=2)
    run.step()
    dead = run.workers[0]
    running = run.die(dead)
    assert running is not None
    run.schedule.mark_test_pending(running)
    run.finish()
    assert {test for _, test in run.order} == set(run.ids)
    assert [test for worker, test in run.order if worker == "w1"].count(running) == 1


def test_a_new_worker_takes_over_when_the_last_one_died() -> None:
    run = Run({"a": 3.0, TIMED: 5.0}, workers=1)
    running = run.die(run.workers[0])
    assert running == "a"
    run.schedule.mark_test_pending(running)
    run.add("w9")
    run.finish()
    assert [test for _, test in run.order] == ["a", TIMED]


def test_files_are_one_group() -> None:
    planned = {test: Planned(test, FILES, needs_target=False) for test in ("x", "y")}
    schedule = LongestFirst(2, planned, lambda _test: 1.0)
    workers = [Worker("w0"), Worker("w1")]
    for worker in workers:
        schedule.add_node(worker)
        schedule.add_node_collection(worker, ["x", "y"])
    schedule.schedule()
    assert [worker.queue for worker in workers] == [[0, 1], []]


def test_timed_tests() -> None:
    assert is_timed(TIMED)
    assert not is_timed("selftests/ftrace/test.d/00basic/basic1.tc")


def test_a_group_that_measures_time_waits_for_the_others() -> None:
    """All of it: a worker starts the first test of a group as soon as it has the second."""
    again = f"{TIMED}[instance]"
    run = Run({"a": 9.0, TIMED: 2.0, again: 2.0, "b": 1.0}, workers=2, groups={TIMED: TIMED, again: TIMED})
    run.finish()
    assert [test for _, test in run.order][-2:] == [TIMED, again]
    assert run.beside[TIMED] == run.beside[again] == set()


def test_a_group_stays_together_when_its_worker_died() -> None:
    groups = {"b1": "b", "b2": "b", "b3": "b"}
    run = Run({"b1": 9.0, "b2": 9.0, "b3": 9.0, "a": 40.0, "c": 20.0, "d": 1.0}, workers=2, groups=groups)
    first, second = run.workers
    assert second.queue == [0, 1, 2]
    assert run.die(second) == "b1"
    run.schedule.mark_test_pending("b1")
    run.step()  # the first worker has room for one more now
    assert first.queue == [4, 0, 1, 2]
    run.add("w9")
    run.finish()
    after = [(worker, test) for worker, test in run.order if test in groups][-3:]
    assert [test for _, test in after] == ["b1", "b2", "b3"]
    assert len({worker for worker, _ in after}) == 1


def test_what_a_dead_worker_had_of_two_groups_is_two_groups_again() -> None:
    run = Run({"a": 9.0, "b": 8.0, TIMED: 1.0}, workers=1)
    run.step()  # b and the timed one are with the worker
    running = run.die(run.workers[0])
    assert running == "b"
    run.schedule.mark_test_pending(running)
    assert list(run.schedule._waiting) == [[1]]
    assert list(run.schedule._alone) == [[2]]


def _gives_up(run: Run, worker: Worker) -> None:
    """What xdist does when a worker ends by itself."""
    worker.shutting_down = True
    run.schedule.give_up(worker)
    assert run.die(worker) is None


def test_what_a_worker_that_gives_up_had_goes_to_others_groups_together() -> None:
    groups = {"b1": "b", "b2": "b", "b3": "b"}
    run = Run({"b1": 9.0, "b2": 9.0, "b3": 9.0, "a": 40.0, "c": 20.0, "d": 1.0}, workers=2, groups=groups)
    first, second = run.workers
    assert second.queue == [0, 1, 2]
    _gives_up(run, second)
    run.finish()
    assert sorted(test for worker, test in run.order if worker == first.name) == sorted(run.ids)
    assert [test for _, test in run.order if test in groups] == ["b1", "b2", "b3"]


def test_a_worker_may_give_up_before_the_others_have_told_their_tests() -> None:
    run = Run({"a": 3.0, "b": 2.0, "c": 1.0}, workers=0)
    run.schedule._count = 2
    hasty = run.add("w0")
    late = Worker("w1")
    run.schedule.add_node(late)
    _gives_up(run, hasty)
    assert not late.shutting_down
    assert not run.schedule.tests_finished
    run.workers.append(late)
    run.schedule.add_node_collection(late, run.ids)
    run.schedule.schedule()
    run.finish()
    assert [test for _, test in run.order] == ["a", "b", "c"]


def test_what_is_given_up_when_nobody_takes_more_is_left_to_who_runs_this_one() -> None:
    run = Run({"a": 9.0, "b": 1.0}, workers=2)
    first, second = run.workers
    assert first.shutting_down
    _gives_up(run, second)
    assert run.schedule.has_pending
    assert run.schedule.tests_finished  # so that xdist goes on to the end
    assert run.step()
    assert [test for _, test in run.order] == ["a"]


def test_when_all_give_up_it_is_over() -> None:
    run = Run(dict.fromkeys("abcde", 1.0), workers=2)
    for worker in list(run.workers):
        assert not run.schedule.tests_finished
        _gives_up(run, worker)
    assert run.schedule.tests_finished


def test_only_what_is_planned_runs() -> None:
    run = Run({"a": 9.0, "b": 1.0}, workers=0)
    run.schedule._count = 1
    del run.schedule._planned["a"]  # type: ignore[attr-defined]
    run.add("w0")
    run.finish()
    assert [test for _, test in run.order] == ["b"]


def test_boards_measure_time_side_by_side() -> None:
    planned = {test: Planned(test, test) for test in (TIMED, "a")}
    schedule = LongestFirst(2, planned, lambda test: 2.0 if test == TIMED else 1.0, share_cpus=False)
    workers = [Worker("w0"), Worker("w1")]
    for worker in workers:
        schedule.add_node(worker)
        schedule.add_node_collection(worker, [TIMED, "a"])
    schedule.schedule()
    assert [worker.running for worker in workers] == [0, 1]


def test_with_as_many_tests_as_workers_each_gets_one() -> None:
    run = Run({"a": 9.0, "b": 8.0, "c": 7.0}, workers=3)
    run.finish()
    assert [worker for worker, _ in run.order] == ["w0", "w1", "w2"]
    assert run.now == 9.0
