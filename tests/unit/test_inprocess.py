"""How an end of pytest is told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.errors import BootError, HarnessError, InfraError, UserError
from harness.model.result import EndKind
from harness.run import inprocess
from harness.run.inprocess import Ended, Witness, without_foreign_plugins
from harness.shortage import Shortage
from tests.faults.catalogue import Blame, fault

CODES = pytest.ExitCode


def test_the_first_internal_error_is_the_one_that_counts() -> None:
    witness = Witness()
    witness.pytest_internalerror("No space left on device")
    witness.pytest_internalerror("assert not crashitem")  # what xdist makes of it
    assert witness.internal_error == "No space left on device"


def test_the_environment_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a pytest that is started later from the same process lacks its plugins."""
    monkeypatch.setenv("PYTEST_ADDOPTS", "--maxfail=1")
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", raising=False)
    before = dict(os.environ)
    with without_foreign_plugins():
        assert "PYTEST_ADDOPTS" not in os.environ
        assert os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] == "1"
    assert dict(os.environ) == before


def test_what_lies_above_the_project_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither is a conftest.py of somebody else run, nor is each directory above looked through."""
    (tmp_path / "conftest.py").write_text("raise RuntimeError('of somebody else')")
    project = tmp_path / "project"
    (project / "testcases").mkdir(parents=True)
    (project / "testcases/conftest.py").write_text("import pytest\n\n@pytest.fixture\ndef ours(): return 1\n")
    (project / "testcases/test_above.py").write_text("def test_above(ours): assert ours\n")
    monkeypatch.setattr(inprocess, "PROJECT", project)
    monkeypatch.setattr(inprocess, "TESTCASES", project / "testcases")
    seen = Seen()
    assert inprocess.run_pytest([seen], suites=frozenset({"testcases"})) == Ended(code=CODES.OK)
    assert seen.looked_at == [str(path.relative_to(project)) for path in sorted(project.rglob("*.py"))]


class Seen:
    """A pytest plugin that keeps the files that pytest has looked at, below the root directory."""

    def __init__(self) -> None:
        self.looked_at: list[str] = []

    def pytest_ignore_collect(self, collection_path: Path, config: pytest.Config) -> None:
        if collection_path.is_file():
            self.looked_at.append(os.path.relpath(collection_path, config.rootpath))


@pytest.mark.parametrize(
    ("ended", "kind", "told"),
    [
        (Ended(code=CODES.INTERRUPTED, collection_errors=("a", "b")), UserError, "the testcases can't be collected"),
        (Ended(code=CODES.USAGE_ERROR), UserError, "-k: expected an expression as .*, found 'word'"),
        (Ended(code=CODES.NO_TESTS_COLLECTED), UserError, "no test of one, two matches -k 'word'"),
        (Ended(code=CODES.INTERNAL_ERROR, internal_error="x\ny"), InfraError, "pytest failed with an internal error"),
    ],
)
def test_an_end_that_is_not_about_tests_is_an_error(ended: Ended, kind: type[HarnessError], told: str) -> None:
    with pytest.raises(kind, match=told) as raised:
        ended.check(suites=frozenset({"two", "one"}), keyword="word")
    assert raised.value.details == tuple(ended.collection_errors) + tuple(ended.internal_error.split())


@fault(
    "no room for what tests print, which pytest keeps in files", where="disk", blame=Blame.INFRA,
    survives="the verdicts until then",
)  # fmt: skip
def test_a_pytest_that_finds_the_disk_full_is_no_bug_of_ours() -> None:
    error = "INTERNALERROR> Traceback\nINTERNALERROR> OSError: [Errno 28] No space left on device"
    with pytest.raises(Shortage, match=r"^pytest: no space left on device"):
        Ended(code=CODES.INTERNAL_ERROR, internal_error=error).check(suites=frozenset(), keyword="")


@pytest.mark.parametrize("code", [CODES.OK, CODES.TESTS_FAILED, CODES.INTERRUPTED])
def test_an_end_that_is_about_tests_is_none(code: int) -> None:
    Ended(code=code).check(suites=frozenset(), keyword="")


@pytest.mark.parametrize(
    ("ended", "kind", "reason"),
    [
        (Ended(code=CODES.INTERRUPTED, stopped_early=True), EndKind.MAXFAIL, ""),  # so xdist ends its workers
        (Ended(code=CODES.TESTS_FAILED, stopped_early=True), EndKind.MAXFAIL, ""),
        (Ended(code=CODES.INTERRUPTED), EndKind.INTERRUPTED, ""),
        (Ended(code=CODES.INTERRUPTED, lost_workers="they died"), EndKind.INTERRUPTED, ""),
        (
            Ended(code=CODES.INTERNAL_ERROR, internal_error="Traceback\nOSError: full\n"),
            EndKind.INTERNAL_ERROR,
            "OSError: full",
        ),
        (Ended(code=CODES.TESTS_FAILED), EndKind.COMPLETE, ""),
        (Ended(code=CODES.OK, lost_workers="they died"), EndKind.WORKERS_LOST, "they died"),
        (Ended(code=CODES.INTERRUPTED, collection_errors=("x",)), EndKind.COLLECTION_FAILED, ""),
        (Ended(code=CODES.OK, boot_failure=BootError("it panicked")), EndKind.NOT_BOOTED, "it panicked"),
    ],
)
def test_how_that_ends_the_run(ended: Ended, kind: EndKind, reason: str) -> None:
    assert (ended.end.kind, ended.end.reason) == (kind, reason)


@pytest.mark.parametrize("error", [BootError("it panicked"), InfraError("the line was lost")])
def test_whether_the_kernel_is_to_blame_for_no_boot_is_on_record(error: HarnessError) -> None:
    assert Ended(code=CODES.OK, boot_failure=error).end.blames_kernel == isinstance(error, BootError)
