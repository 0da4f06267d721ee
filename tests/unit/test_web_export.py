"""`harness web --export`: files that link to each other, written whole or not at all."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from click.testing import CliRunner
from lxml import html

from harness.cli.web import web
from harness.errors import InfraError, UserError
from harness.model.result import EndKind, Result, RunEnd, RunResults, Verdict
from harness.store.database import opened
from harness.store.ingest import add_run
from harness.web import export as exporting
from harness.web.address import Filter
from harness.web.export import export
from harness.web.html import page_html
from harness.web.links import file_name
from tests import simulated
from tests.faults.catalogue import Blame, fault

HOSTILE = ("../../../etc/passwd", "/etc/passwd", "a\0b", "..", "x" * 5000, "ü/\U0001f600", "<script>", "a b\nc", "CON")


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "history"
    simulated.write(path)
    return path


def document(page: Path) -> Any:
    return html.fromstring(page.read_text())


def test_every_link_leads_to_a_file_and_every_file_can_be_reached(history: Path, tmp_path: Path) -> None:
    directory = tmp_path / "pages"
    count = export(history, directory, shown=Filter(days=3))
    names = {entry.name for entry in directory.glob("*.html")}
    assert len(names) == count == 5 + 9 + 6 + len(simulated.TESTS) + 1  # lists, runs, comparisons, tests, a fault
    reached = set()
    for name in names:
        page = document(directory / name)
        links = {unquote(href.partition("#")[0]) for href in page.xpath("//a/@href | //link/@href")} - {""}
        assert links <= names | {"style.css"}, name
        reached |= links
        assert page.xpath("//form") == []
        assert page.xpath("//meta[@http-equiv='Content-Security-Policy']/@content")[0].startswith("default-src 'none'")
    assert reached == names | {"style.css"}


def test_the_same_runs_as_in_the_browser(history: Path, tmp_path: Path) -> None:
    export(history, tmp_path / "pages", shown=Filter(days=2))
    page = document(tmp_path / "pages/index.html")
    assert len(page.xpath("//table[@class='matrix']//td/a")) == 6
    assert "2 days up to 2026-11-30" in page.text_content()


def test_an_export_replaces_an_earlier_one_and_nothing_else(history: Path, tmp_path: Path) -> None:
    directory = tmp_path / "pages"
    export(history, directory, shown=Filter(days=3))
    before = len(list(directory.iterdir()))
    export(history, directory, shown=Filter(days=1))
    assert len(list(directory.iterdir())) < before
    assert [entry.name for entry in tmp_path.iterdir()] == ["pages"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes").write_text("mine")
    for other in (tmp_path / "mine", tmp_path / "mine/notes"):
        with pytest.raises(UserError, match="expected a new directory, an empty one, or an earlier export"):
            export(history, other, shown=Filter())
    assert (tmp_path / "mine/notes").read_text() == "mine"


@fault("a run was killed before its first test", where="killed", blame=Blame.NOBODY,
       survives="the export; the runs before and after it are compared with each other")  # fmt: skip
def test_a_run_without_results_keeps_no_page_out(tmp_path: Path) -> None:
    (first, *_) = simulated.runs()
    with opened(tmp_path / "h", writable=True) as connection:
        for night in range(3):
            record = replace(first.record, id=f"r{night}")
            results = first.results if night != 1 else ()
            run = RunResults(record=record, results=results, started=first.started + 86400 * night)
            add_run(connection, run, directory=Path("/x"))
    export(tmp_path / "h", tmp_path / "pages", shown=Filter())
    assert len(list((tmp_path / "pages").glob("run-*.html"))) == 3
    assert [page.name for page in (tmp_path / "pages").glob("compare-*.html")] == [
        file_name("compare", {"old": "r0", "new": "r2"})
    ]


@fault("the disk is full while pages are exported", where="disk", blame=Blame.INFRA,
       survives="the earlier export; nothing half written is left")  # fmt: skip
def test_an_export_that_fails_leaves_the_earlier_one(
    history: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(history, tmp_path / "pages", shown=Filter(days=1))
    made = sorted(entry.name for entry in (tmp_path / "pages").iterdir())
    rendered = page_html
    left = [5]

    def full(*words: Any) -> str:
        left[0] -= 1
        if not left[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return rendered(*words)

    monkeypatch.setattr(exporting, "page_html", full)
    with pytest.raises(InfraError, match=rf"^{tmp_path}: no space left on device"):
        export(history, tmp_path / "pages", shown=Filter(days=3))
    assert sorted(entry.name for entry in (tmp_path / "pages").iterdir()) == made
    assert [entry.name for entry in tmp_path.iterdir()] == ["pages"]


@fault("tests are named like paths, devices, markup, and longer than a file's name may be", where="hostile target",
       blame=Blame.NOBODY, survives="a page for each, in the export and nowhere else")  # fmt: skip
def test_names_of_a_target_are_no_paths(tmp_path: Path) -> None:
    results = tuple(Result(test=name[:900], verdict=Verdict.PASS) for name in HOSTILE)
    run = RunResults(results=results, started=1e9, ended=RunEnd(kind=EndKind.COMPLETE))
    with opened(tmp_path / "h", writable=True) as connection:
        add_run(connection, run, directory=Path("/x"))
    (tmp_path / "deep").mkdir()
    export(tmp_path / "h", tmp_path / "deep/pages", shown=Filter())
    pages = list((tmp_path / "deep/pages").glob("test-*.html"))
    assert len(pages) == len(HOSTILE)
    assert sorted(entry.name for entry in tmp_path.iterdir() if not entry.name.startswith("h")) == ["deep"]
    assert [entry.name for entry in (tmp_path / "deep").iterdir()] == ["pages"]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_files_name_is_plain_and_short(name: str) -> None:
    made = file_name("test", {"name": name})
    assert made.isascii()
    assert len(made) < 100
    assert set(made) <= set("abcdefghijklmnopqrstuvwxyz0123456789-.")
    assert made != file_name("test", {"name": name + " "})


def test_the_verb_says_where_to_begin(history: Path, tmp_path: Path) -> None:
    words = ["--export", str(tmp_path / "p"), "--days", "1", "--history", str(history)]
    done = CliRunner().invoke(web, words, standalone_mode=False)
    assert done.output.startswith(f"{tmp_path / 'p' / 'index.html'}: ")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--days", "3"], "--days: expected with --export"),
        (["--days", "0", "--export", "p"], "--days: expected a number from 1 to 3660, found '0'"),
        (["--listen", "8000"], "--listen 8000: expected ADDRESS:PORT, as 127.0.0.1:8000"),
        (["--listen", "lab:8000"], "--listen lab:8000: expected ADDRESS:PORT"),
        (["--listen", "127.0.0.1:70000"], "--listen 127.0.0.1:70000: expected ADDRESS:PORT"),
    ],
)
def test_wrong_options_are_told(history: Path, words: list[str], told: str) -> None:
    done = CliRunner().invoke(web, [*words, "--history", str(history)], standalone_mode=False)
    assert isinstance(done.exception, UserError)
    assert done.exception.message.startswith(told)
