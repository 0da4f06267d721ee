"""`harness publish`: what waits in the queue arrives, once, whatever happens to the sender, the server and the disk."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import click.testing
import pytest

from harness.campaign.publishing import publish_kcidb
from harness.campaign.request import KcidbRequest
from harness.cli.main import cli
from harness.errors import InfraError, UserError
from harness.model.event import Finished, Planned, RunBegun, RunEnded
from harness.model.record import BuildRecord, KernelRecord, RunRecord
from harness.model.result import EndKind, Result, RunEnd, Verdict
from harness.parse.events import event_to_json
from harness.parse.records import build_record_to_json
from harness.publish import kcidb, limited
from harness.publish.kcidb import KcidbServer
from harness.publish.queue import Queue, Refused
from tests.faults.catalogue import Blame, fault
from tests.faults.disk import Disk, mounted
from tests.faults.killing import SUBMISSIONS, SUBMIT_TO, killed
from tests.unit import kcidbserver
from tests.unit.kcidbserver import TOKEN, kcidb_server


@pytest.fixture
def server() -> Iterator[kcidbserver.KcidbServer]:
    with kcidb_server() as running:
        yield running


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_KCIDB_TOKEN", TOKEN)


def run_dir(directory: Path, name: str, verdict: Verdict = Verdict.PASS) -> Path:
    """The directory of a run of two tests."""
    path = directory / name
    path.mkdir()
    kernel = KernelRecord(release="7.3.4", key="k")
    events = [
        RunBegun(time=1.0, record=RunRecord(id=name, kernel=kernel)),
        Planned(time=1.0, tests=("a", "b")),
        *(Finished(time=2.0, result=Result(test=test, verdict=verdict, machine="m")) for test in "ab"),
        RunEnded(time=3.0, end=RunEnd(kind=EndKind.COMPLETE)),
    ]
    (path / "events.jsonl").write_text("".join(f"{event_to_json(event)}\n" for event in events))
    (path / "build.json").write_text(build_record_to_json(BuildRecord(key="b", kernel=kernel)))
    return path


def request(url: str, queue: Path, *runs: Path, **given: Any) -> KcidbRequest:
    return KcidbRequest(runs=runs, origin="lab", server=url, queue=queue, **given)


def waiting(queue: Path) -> list[Path]:
    return [path for path in queue.glob("*/waiting/*") if not path.name.startswith(".")]


def test_a_run_is_sent_once(server: kcidbserver.KcidbServer, tmp_path: Path) -> None:
    runs = [run_dir(tmp_path, name) for name in ("r1", "r2")]
    asked = request(server.url, tmp_path / "q", *runs)
    assert publish_kcidb(asked) == "2 sent"
    assert publish_kcidb(asked) == "0 sent; 2 queued or sent before"
    assert len(server.bodies[""]) == 2
    assert sorted(key.partition(" ")[0] for key in server.objects[""]) == ["builds", "checkouts", *["tests"] * 6]
    assert {headers["Authorization"] for headers in server.asked} == {f"Bearer {TOKEN}"}
    assert waiting(tmp_path / "q") == []


def test_a_run_that_has_more_results_now_is_sent_again_under_the_same_ids(
    server: kcidbserver.KcidbServer, tmp_path: Path
) -> None:
    path = run_dir(tmp_path, "r", Verdict.FAIL)
    publish_kcidb(request(server.url, tmp_path / "q", path))
    before = set(server.objects[""])
    with (path / "events.jsonl").open("a") as events:
        again = Finished(time=4.0, result=Result(test="a", verdict=Verdict.PASS, machine="m"))
        events.write(f"{event_to_json(again)}\n")
    publish_kcidb(request(server.url, tmp_path / "q", path))
    assert (len(server.bodies[""]), set(server.objects[""])) == (2, before)


@fault(
    "KCIDB's server is down", where="network", blame=Blame.INFRA,
    survives="the submissions, in the queue; they are sent when it is back, without naming the runs again",
)  # fmt: skip
def test_what_can_not_be_sent_waits(server: kcidbserver.KcidbServer, tmp_path: Path) -> None:
    server.answers = [(503, b"restarting")] * 2
    for name in ("r1", "r2"):
        with pytest.raises(
            InfraError, match=r"it answers 503 restarting; . waits? in .*; `harness publish kcidb` sends"
        ):
            publish_kcidb(request(server.url, tmp_path / "q", run_dir(tmp_path, name)))
    assert len(waiting(tmp_path / "q")) == 2
    assert publish_kcidb(request(server.url, tmp_path / "q")) == "2 sent"
    assert [json.loads(body)["tests"][-1]["misc"]["run"] for body in server.bodies[""]] == ["r1", "r2"]


@fault(
    "nobody listens at the port of KCIDB's server", where="network", blame=Blame.INFRA,
    survives="the submission, in the queue",
)  # fmt: skip
def test_no_server(server: kcidbserver.KcidbServer, tmp_path: Path) -> None:
    with kcidb_server() as gone:
        pass
    with pytest.raises(InfraError, match="expected KCIDB's server to answer, found: Connection refused; 1 waits in"):
        publish_kcidb(request(gone.url, tmp_path / "q", run_dir(tmp_path, "r")))
    assert publish_kcidb(request(server.url, tmp_path / "q")) == "0 sent"  # what waits for one is for no other
    assert len(waiting(tmp_path / "q")) == 1


@pytest.mark.parametrize(
    "answer",
    [b"<html>Accept the terms of use", b"{}", b'{"status":"error","id":"1"}', b'{"status":"ok","id":1}', b"", b"\xff"],
)
@fault(
    "something else than KCIDB's server answers with 200, such as a portal of the network", where="network",
    blame=Blame.INFRA, survives="the submission, in the queue",
)  # fmt: skip
def test_only_kcidbs_own_answer_is_an_acknowledgement(
    answer: bytes, server: kcidbserver.KcidbServer, tmp_path: Path
) -> None:
    server.answers = [(200, answer)]
    with pytest.raises(InfraError, match="expected KCIDB's answer with status and id, found"):
        publish_kcidb(request(server.url, tmp_path / "q", run_dir(tmp_path, "r")))
    assert publish_kcidb(request(server.url, tmp_path / "q")) == "1 sent"


@fault(
    "KCIDB's server takes the submission and never answers", where="network", blame=Blame.INFRA,
    survives="the time limit holds; the submission, in the queue",
)  # fmt: skip
def test_a_server_that_hangs(server: kcidbserver.KcidbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    is_over = threading.Event()
    server.on_submit = lambda when: is_over.wait() if when == "kept" else None  # type: ignore[assignment]
    queue = Queue(tmp_path / "q")
    queue.put(SUBMISSIONS[0])
    with pytest.raises(InfraError, match="expected KCIDB's server to answer within 0 s, it did not in full"):
        queue.send(KcidbServer(url=server.url, token=TOKEN, limit=0.2).post)
    is_over.set()
    assert len(queue.waiting()) == 1
    assert queue.send(KcidbServer(url=server.url, token=TOKEN).post).taken == 1
    assert list(server.objects[""]) == ["tests lab:1"]


@fault(
    "KCIDB's server has an error, and its answer breaks off", where="network", blame=Blame.INFRA,
    survives="the submission, in the queue; the message names the server, not the queue",
)  # fmt: skip
def test_an_error_that_breaks_off(server: kcidbserver.KcidbServer, tmp_path: Path) -> None:
    server.answers, server.headers = [(500, b"no length of a chunk\r\n")], {"Transfer-Encoding": "chunked"}
    queue = Queue(tmp_path / "q")
    queue.put(SUBMISSIONS[0])
    with pytest.raises(InfraError, match=rf"^{server.url}: expected KCIDB's server to answer, found: IncompleteRead"):
        queue.send(KcidbServer(url=server.url, token=TOKEN).post)
    assert len(queue.waiting()) == 1


def test_an_answer_that_comes_as_the_time_limit_ends_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    class JustNow(Future[str]):
        def result(self, timeout: float | None = None) -> str:
            answer = super().result()
            if timeout is not None:
                raise TimeoutError
            return answer

    monkeypatch.setattr(limited, "Future", JustNow)
    assert limited.within(1.0, lambda: "taken", late="it is late") == "taken"


@fault(
    "KCIDB's server refuses a submission for good", where="network", blame=Blame.INFRA,
    survives="the submission, in a directory that the message names; all others are sent",
)  # fmt: skip
def test_what_the_server_refuses_for_good_is_put_aside(server: kcidbserver.KcidbServer, tmp_path: Path) -> None:
    server.answers = [(400, b'{"id":"0","status":"error","message":"no JSON\\u001b[31m"}')]
    runs = [run_dir(tmp_path, name) for name in ("r1", "r2")]
    with pytest.raises(InfraError, match="1 of 2 were refused") as raised:
        publish_kcidb(request(server.url, tmp_path / "q", *runs))
    (told,) = raised.value.details
    assert "it answers 400 no JSON; it is in" in told
    assert json.loads(Path(told.rpartition(" ")[2]).read_text())["tests"][0]["misc"]["run"] == "r1"
    assert (len(server.bodies[""]), waiting(tmp_path / "q")) == (1, [])


def test_what_was_refused_is_told_although_the_server_goes_down_then(
    server: kcidbserver.KcidbServer, tmp_path: Path
) -> None:
    server.answers = [(413, b"too large"), (502, b"bad gateway")]
    runs = [run_dir(tmp_path, name) for name in ("r1", "r2")]
    with pytest.raises(InfraError, match="it answers 502 bad gateway; 1 waits in") as raised:
        publish_kcidb(request(server.url, tmp_path / "q", *runs))
    assert ["it answers 413 too large" in told for told in raised.value.details] == [True]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ((401, b'{"message":"JWT is required"}'), "a token that KCIDB's server knows, it answers 401 JWT is required"),
        ((404, b"not found"), "--server: expected KCIDB's server at http.*, it answers 404 not found"),
    ],
)
def test_a_wrong_token_or_address_is_the_users(
    answer: tuple[int, bytes], told: str, server: kcidbserver.KcidbServer, tmp_path: Path
) -> None:
    server.answers = [answer]
    with pytest.raises(UserError, match=told):
        publish_kcidb(request(server.url, tmp_path / "q", run_dir(tmp_path, "r")))
    assert len(waiting(tmp_path / "q")) == 1


@fault(
    "KCIDB's server redirects to another host", where="network", blame=Blame.USER,
    survives="the token, which is sent nowhere else; the submission, in the queue",
)  # fmt: skip
def test_no_redirect_takes_the_token_elsewhere(server: kcidbserver.KcidbServer, tmp_path: Path) -> None:
    with kcidb_server() as other:
        server.answers, server.headers = [(307, b"")], {"Location": f"{other.url}/submit"}
        with pytest.raises(UserError, match=f"it redirects to {other.url}/submit; if that is the server, give its"):
            publish_kcidb(request(server.url, tmp_path / "q", run_dir(tmp_path, "r")))
        assert other.asked == []
    assert len(waiting(tmp_path / "q")) == 1


@pytest.mark.parametrize(
    ("url", "token", "told"),
    [
        ("", "", "--server: expected an address such as https://kcidb.example.org, found ''"),
        ("ftp://x", "", "--server: expected an address"),
        ("https://", "", "--server: expected an address"),
        ("https://x:99999", "", "--server: expected an address"),
        ("https://sesame@x", "", "--server: expected an address without a token in it"),
        (
            "http://kcidb.example.org",
            "sesame",
            "expected an https address, found 'http://kcidb.example.org': the token",
        ),
        ("https://x", "sesame open", "the token for KCIDB: expected one line"),
        ("https://x", "sesame\r\nX: y", "the token for KCIDB: expected one line"),
    ],
)
def test_addresses_and_tokens(url: str, token: str, told: str) -> None:
    with pytest.raises(UserError, match=told) as raised:
        KcidbServer(url=url, token=token).checked()
    assert "sesame" not in raised.value.message
    assert "sesame" not in repr(KcidbServer(url="https://x", token=token))


def test_the_token_comes_from_a_file_or_the_environment(
    server: kcidbserver.KcidbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_KCIDB_TOKEN", "wrong")
    file = tmp_path / "token"
    with pytest.raises(UserError, match=r"--token-file: expected a file with a token at .*: No such file"):
        publish_kcidb(request(server.url, tmp_path / "q", token_file=file))
    file.write_text("\n")
    with pytest.raises(UserError, match=r"--token-file: expected a token in .*, found none"):
        publish_kcidb(request(server.url, tmp_path / "q", token_file=file))
    file.write_text(f"{TOKEN}\n")
    assert publish_kcidb(request(server.url, tmp_path / "q", run_dir(tmp_path, "r"), token_file=file)) == "1 sent"


def test_two_senders_send_everything_once(server: kcidbserver.KcidbServer, tmp_path: Path) -> None:
    for document in SUBMISSIONS:
        Queue(tmp_path / "q").put(document)
    post = KcidbServer(url=server.url, token=TOKEN).post
    threads = [threading.Thread(target=lambda: Queue(tmp_path / "q").send(post)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(server.bodies[""]) == sorted(SUBMISSIONS)


def test_the_oldest_is_sent_first_and_what_is_known_is_not_queued_again(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "q")
    documents = [f'{{"number": {number}}}'.encode() for number in range(5)]
    assert [queue.put(document) for document in documents] == [True] * 5
    for second, path in enumerate(reversed(queue.waiting())):
        os.utime(path, (second, second))
    assert not queue.put(documents[0])
    sent: list[bytes] = []
    wanted = [path.read_bytes() for path in queue.waiting()]

    def post(document: bytes) -> str:
        sent.append(document)
        return "id"

    queue.send(post)
    assert sent == wanted
    assert not queue.put(documents[0])


@fault(
    "SIGKILL after any write, sync or rename of the queue", where="killed", blame=Blame.NOBODY,
    survives="every submission that was queued; none that was acknowledged is sent again",
)  # fmt: skip
def test_a_sender_that_is_killed_anywhere(
    server: kcidbserver.KcidbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.token = None
    monkeypatch.setenv(SUBMIT_TO, server.url)
    steps = killed("submission", signal.SIGKILL, tmp_path)
    assert len(steps) >= 20
    twice = []
    for each in steps:
        address, where = f"/{each['step']}", each["what"]
        assert each["status"] == -signal.SIGKILL, where
        queue = Queue(tmp_path / str(each["step"]) / "run")
        known = {path.name for path in (queue.root / "sent").glob("*.json")}
        taken = list(server.bodies[address])
        for document in SUBMISSIONS:
            queue.put(document)
        queue.send(KcidbServer(url=f"{server.url}{address}").post)
        bodies = server.bodies[address]
        assert set(server.objects[address]) == {"tests lab:1", "tests lab:2"}, where
        assert set(bodies) == set(SUBMISSIONS), where
        assert len(bodies) - len(taken) == len(SUBMISSIONS) - len(known), where
        twice += [where] * (len(bodies) - len(SUBMISSIONS))
        assert [path.name for path in queue.root.rglob(".*.partial")] == [], where
    # only what the server has taken and the record does not say yet
    assert twice
    assert all("partial" in where for where in twice), twice


@pytest.mark.parametrize("moment", ["begun", "kept", "answered"])
@fault(
    "SIGKILL of `harness publish kcidb` while the server reads, keeps or has acknowledged a submission",
    where="killed", blame=Blame.NOBODY,
    survives="every submission; the database has each object once",
)  # fmt: skip
def test_a_command_that_is_killed_while_it_talks(moment: str, server: kcidbserver.KcidbServer, tmp_path: Path) -> None:
    runs = [run_dir(tmp_path, f"r{number}") for number in range(3)]
    words = [
        "publish",
        "kcidb",
        *map(str, runs),
        "--origin",
        "lab",
        "--queue",
        str(tmp_path / "q"),
        "--server",
        server.url,
    ]
    is_started, moments = threading.Event(), []

    def kill(when: str) -> None:
        moments.append(when)
        if when == moment and moments.count(when) == 2:
            is_started.wait()
            sender.kill()
            sender.wait()

    server.on_submit = kill
    with subprocess.Popen([sys.executable, "-m", "harness", *words], stdout=subprocess.DEVNULL) as sender:
        is_started.set()
        assert sender.wait(timeout=60) == -signal.SIGKILL
    server.on_submit = lambda _when: None
    publish_kcidb(request(server.url, tmp_path / "q", *runs))
    assert sorted(key.partition(" ")[0] for key in server.objects[""]) == ["builds", "checkouts", *["tests"] * 9]
    assert len(set(server.bodies[""])) == 3
    assert len(server.bodies[""]) <= 4


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS])
@fault(
    "the disk of KCIDB's queue is full or read-only", where="disk", blame=Blame.INFRA,
    survives="what waited; what was sent is on record or is sent again",
)  # fmt: skip
def test_a_queue_on_a_disk_that_fails(error: int, server: kcidbserver.KcidbServer, tmp_path: Path) -> None:
    queue, post = Queue(tmp_path / "q"), KcidbServer(url=server.url, token=TOKEN).post
    queue.put(SUBMISSIONS[0])
    seen = Disk(tmp_path / "q")
    with mounted(seen):
        queue.put(b'{"other": 1}')
    for number in range(1, len(seen.operations) + 1):
        with mounted(Disk(tmp_path / "q", fails_at=number, error=error)), contextlib.suppress(InfraError):
            queue.put(SUBMISSIONS[1])
            raise AssertionError("expected a failure")
        assert SUBMISSIONS[0] in [path.read_bytes() for path in queue.waiting()]
    queue.put(SUBMISSIONS[1])
    queue.send(post)
    assert set(server.bodies[""]) >= set(SUBMISSIONS)


def test_a_dry_run_prints_the_submission_and_keeps_nothing(tmp_path: Path) -> None:
    words = ["publish", "kcidb", str(run_dir(tmp_path, "r")), "--origin", "lab", "--queue", str(tmp_path / "q")]
    told = click.testing.CliRunner().invoke(cli, [*words, "--dry-run"])
    assert json.loads(told.output)["tests"][-1]["status"] == "PASS"
    assert not (tmp_path / "q").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["kcidb", "{run}"], "--origin: expected your CI system's name in KCIDB"),
        (["kcidb", "{run}", "--origin", "My-Lab"], "small letters, digits and _\\), found 'My-Lab'"),
        (["kcidb", "{run}/nowhere", "--origin", "lab"], "expected the directory of a run"),
        (["kcidb", "{run}", "--origin", "lab", "--files-url", "file:///x"], "--files-url: expected an http or https"),
        (["kcidb", "{run}", "--origin", "lab"], "--server: expected an address such as"),
        (["patchwork", "{run}/nowhere"], "expected the directory of a run"),
        (["patchwork", "{run}", "--target-url", "javascript:x"], "--target-url: expected an http or https address"),
        (["patchwork", "{run}", "--target-url", "https://x/" + "y" * 200], "at most 200 characters, as Patchwork does"),
    ],
)
def test_wrong_input(words: list[str], told: str, tmp_path: Path) -> None:
    path = run_dir(tmp_path, "r")
    raised = click.testing.CliRunner().invoke(cli, ["publish", *(word.format(run=path) for word in words)]).exception
    with pytest.raises(UserError, match=told):
        raise raised or AssertionError


def test_refusals_are_infrastructure() -> None:
    assert issubclass(Refused, InfraError)
    assert kcidb.LIMIT_S < 600
