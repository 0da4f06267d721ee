"""The ranges of `harness bisect` that are no commits, what its runs' results count as, and which builds are one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.build.sameness import hash_of_binaries
from harness.campaign.bisect.local import _Told, suite_of
from harness.campaign.bisect.place import Place
from harness.campaign.bisect.ranges import Ground, ground_of, name_of_run
from harness.campaign.request import BisectRequest, BuildOptions
from harness.errors import UserError
from harness.model.bisect import Kind, Outcome
from harness.model.fault import Fault, FaultKind
from harness.model.kernel import Build
from harness.model.product import Product
from harness.model.result import Attempt, Repeat, Result, Verdict
from harness.products import digest_of
from harness.report.failures import identity, is_same
from tests.command import harness
from tests.fakebisect import TEST

PATCH = "--- a/kernel/sched.c\n+++ b/kernel/sched.c\n@@ -1 +1 @@\n-int sched{0};\n+int sched{1};\n"


def request(**changes: object) -> BisectRequest:
    kernel = BuildOptions(
        build_dir=None, kernel="7.3.4", patches=(), kconfigs=(), toolchain=None, allow_plain_ftrace=False, jobs=None
    )
    fields: dict[str, object] = {"kernel": kernel, "test": TEST, "board_name": "qemu-virt", **changes}
    return BisectRequest(**fields)  # type: ignore[arg-type]


def ground(tmp_path: Path, asked: BisectRequest) -> Ground:
    (tmp_path / "out").mkdir(exist_ok=True)
    return ground_of(asked, Place(tmp_path / "out"))


def test_a_series_is_searched_patch_by_patch(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number + 1}-patch.patch").write_text(
            PATCH.replace("{0}", f"{number}").replace("{1}", f"{number + 1}")
        )
    files = tuple(sorted(tmp_path.glob("*.patch")))
    plain = request()
    kernel = BuildOptions(**{**plain.kernel.__dict__, "patches": files})
    found = ground(tmp_path, request(kernel=kernel))
    assert str(found.range.changes[0]) == "1/3 (1-patch.patch)"
    assert found.range.states == (0, 0b001, 0b011, 0b111)
    assert found.options(0).patches == ()
    told = [path.read_text() for path in found.options(2).patches]
    assert ["sched2" in text for text in told] == [False, True]
    left = found.reverted(1)
    assert isinstance(left, BuildOptions)
    assert ["sched1;\n-" in path.read_text() or "-int sched1;" in path.read_text() for path in left.patches] == [
        False,
        False,
    ]
    assert name_of_run(found, 2) == "2-of-3"


def test_the_symbols_of_a_fragment_are_searched_in_its_order(tmp_path: Path) -> None:
    fragment = tmp_path / "debug.config"
    fragment.write_text("# for: one\nCONFIG_ONE=y\n# CONFIG_TWO is not set\nCONFIG_THREE=3\n")
    found = ground(tmp_path, request(changed=fragment))
    assert [change.name for change in found.range.changes] == [
        "CONFIG_ONE=y", "# CONFIG_TWO is not set", "CONFIG_THREE=3",
    ]  # fmt: skip
    assert found.options(0).kconfigs[-1].read_text().strip() == ""
    assert found.options(2).kconfigs[-1].read_text() == "CONFIG_ONE=y\n# CONFIG_TWO is not set\n"
    left = found.reverted(1)
    assert isinstance(left, BuildOptions)
    assert left.kconfigs[-1].read_text() == "CONFIG_ONE=y\nCONFIG_THREE=3\n"


@pytest.mark.parametrize("text", ["", "CONFIG_ONE=y\n", "# only words\n"])
def test_a_fragment_needs_two_symbols(tmp_path: Path, text: str) -> None:
    (tmp_path / "one.config").write_text(text)
    with pytest.raises(UserError, match="at least two symbols"):
        ground(tmp_path, request(changed=tmp_path / "one.config"))
    with pytest.raises(UserError, match="expected a fragment at"):
        ground(tmp_path, request(changed=tmp_path / "none.config"))


def test_toolchains_are_searched_in_the_given_order(tmp_path: Path) -> None:
    found = ground(tmp_path, request(toolchains=("gcc-11", "gcc-12", "clang-19")))
    assert [found.options(state).toolchain for state in range(3)] == ["gcc-11", "gcc-12", "clang-19"]
    assert (found.range.good, found.reverted(0)) == ("gcc-11", "a toolchain can't be taken back")


def test_qemus_are_directories_that_have_one(tmp_path: Path) -> None:
    places = [tmp_path / name for name in ("old", "new")]
    with pytest.raises(UserError, match="directories with qemu-system-aarch64"):
        ground(tmp_path, request(qemus=tuple(places)))
    for place in places:
        place.mkdir()
        (place / "qemu-system-aarch64").touch()
    found = ground(tmp_path, request(qemus=tuple(places)))
    assert [found.path(state) for state in range(2)] == [str(place) for place in places]
    assert found.options(0) == found.options(1)


def test_a_finished_build_can_not_be_searched(tmp_path: Path) -> None:
    kernel = BuildOptions(**{**request().kernel.__dict__, "build_dir": tmp_path})
    with pytest.raises(UserError, match="--build: each state has to be built"):
        ground(tmp_path, request(kernel=kernel, toolchains=("gcc-11", "gcc-12")))


def test_the_command_says_what_is_wrong_with_a_range(tmp_path: Path) -> None:
    for words, complaint in (
        (["--toolchains", "gcc-11"], "--toolchains: expected at least two different names"),
        (["--qemus", "/none,/nowhere"], "--qemus: expected directories with qemu-system-aarch64, found none in /none"),
        ([], "expected a range to search in"),
    ):
        done = harness("bisect", TEST, *words, cwd=tmp_path)
        assert done.returncode == 2, done.stderr
        assert complaint in done.stderr


def test_the_suite_of_a_test() -> None:
    assert suite_of(TEST) == "testcases/function"
    assert suite_of("selftests/ftrace/test.d/00basic/basic1.tc") == "selftests/ftrace"
    for wrong in ("test_caller", "testcases/test_x.py::test_y", "build"):
        with pytest.raises(UserError, match="TEST: expected a test's id"):
            suite_of(wrong)


CRASH = Fault(kind=FaultKind.WARNING, title="WARNING in f (kernel/a.c:12)")


def seen(*results: Attempt, failure: str = "", enough: Callable[[int], bool] = lambda _: False) -> list[Outcome]:
    """What a search gets of a test's first result and its repetitions."""
    outcomes: list[Outcome] = []

    def see(outcome: Outcome) -> bool:
        outcomes.append(outcome)
        return enough(len(outcomes))

    told = _Told(request(failure=failure), see)
    first, *others = results
    fields = {name: getattr(first, name) for name in Attempt.__dataclass_fields__}
    so_far: list[Repeat] = []
    for other in (*others, None):
        result = Result(test=TEST, repeats=tuple(so_far), **fields)
        if told.enough(result) or other is None:
            break
        so_far.append(Repeat(**{name: getattr(other, name) for name in Attempt.__dataclass_fields__}))
    assert told.take((Result(test=TEST, repeats=tuple(so_far), **fields),)) == bool(outcomes)
    return outcomes


def test_each_repetition_counts_once() -> None:
    outcomes = seen(
        Attempt(verdict=Verdict.PASS),
        Attempt(verdict=Verdict.CRASH, fault=CRASH, reason="WARNING in f"),
        Attempt(verdict=Verdict.XFAIL, actual=Verdict.FAIL, reason="3 of 17"),
        Attempt(verdict=Verdict.SKIP, reason="needs two CPUs"),
    )
    assert [outcome.kind for outcome in outcomes] == [Kind.PASS, Kind.FAIL, Kind.FAIL, Kind.NOTHING]
    assert outcomes[1].failure == "WARNING in f (kernel/a.c) [WARNING]"
    assert outcomes[2].failure == "FAIL: 0 of 0"


def test_errors_of_the_lab_are_no_outcome() -> None:
    gone = Attempt(verdict=Verdict.ERROR, reason="the board is gone")
    assert seen(gone) == []
    assert seen(*[gone] * 5, Attempt(verdict=Verdict.PASS)) == []  # another run begins before that
    outcomes = seen(Attempt(verdict=Verdict.ERROR), Attempt(verdict=Verdict.PASS))
    assert [outcome.kind for outcome in outcomes] == [Kind.PASS]


def test_it_ends_when_the_search_has_seen_enough() -> None:
    passes = [Attempt(verdict=Verdict.PASS)] * 9
    assert len(seen(*passes, enough=lambda count: count == 3)) == 3


def test_a_failure_without_the_wanted_text_is_another_one() -> None:
    crash = Attempt(verdict=Verdict.CRASH, fault=CRASH, reason="WARNING in f")
    assert [each.kind for each in seen(crash, failure="kernel/a.c")] == [Kind.FAIL]
    assert [each.kind for each in seen(crash, failure="kernel/b.c")] == [Kind.OTHER]


def test_a_test_that_is_not_there_says_nothing() -> None:
    outcomes: list[Outcome] = []

    def see(outcome: Outcome) -> bool:
        outcomes.append(outcome)
        return True

    assert _Told(request(), see).take(())
    assert [(each.kind, each.reason) for each in outcomes] == [(Kind.NOTHING, f"there is no test {TEST}")]


def test_the_same_failure_is_known_again() -> None:
    first = identity(Attempt(verdict=Verdict.FAIL, reason="expected 4 calls, found 3 at 0xffff800012345678"))
    assert first == identity(Attempt(verdict=Verdict.FAIL, reason="expected 4 calls, found 2 at 0xffff800099999999"))
    assert not is_same(first, identity(Attempt(verdict=Verdict.TIMEOUT, reason="expected 4 calls, found 3")))
    whole, cut = "Oops in f (a.c) [oops]", "Oops in f [oops, cut short]"
    assert is_same(whole, cut)
    assert not is_same(whole, "Oops in g (a.c) [oops]")


def build(directory: Path, image: bytes, **files: str) -> Build:
    directory.mkdir()
    (directory / "Image").write_bytes(image)
    for name, text in {"build.log": str(directory), **files}.items():
        (directory / name).write_text(text)
    products = tuple(Product(path=path, digest=digest_of(path), remedy="") for path in sorted(directory.iterdir()))
    return Build(directory=directory, release="7.3.4", key="k", products=products)


def test_without_a_vmlinux_the_image_and_modules_decide(tmp_path: Path) -> None:
    one = build(tmp_path / "one", b"code", **{"klp.ko": "module", "changed.json": "1"})
    again = build(tmp_path / "two", b"code", **{"klp.ko": "module", "changed.json": "2"})
    assert hash_of_binaries(one) == hash_of_binaries(again) != ""
    other = build(tmp_path / "code", b"c0de", **{"klp.ko": "module"})
    module = build(tmp_path / "ko", b"code", **{"klp.ko": "another"})
    assert len({hash_of_binaries(each) for each in (one, other, module)}) == 3
    assert hash_of_binaries(Build(directory=tmp_path, release="", key="")) == ""
