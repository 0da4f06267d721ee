"""`harness mail`: what a mail server gets, and what becomes of a mail that it does not take."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import shlex
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click.testing
import pytest

from harness.build.keptpatches import keep_patches
from harness.campaign.mailing import Mail, mail_about
from harness.campaign.request import MailRequest
from harness.cli.main import cli
from harness.errors import InfraError, UserError
from harness.model.fault import Fault, FaultKind
from harness.model.record import BoardRecord, BuildRecord, KernelRecord, PatchRecord, RunRecord, SourceRecord
from harness.model.result import EndKind, Result, RunEnd, RunResults, Verdict
from harness.parse.records import build_record_to_json
from harness.parse.series import patches_from_file
from harness.publish import smtp
from harness.publish.message import message
from harness.publish.smtp import Server
from harness.store.database import opened
from harness.store.ingest import add_run
from tests.faults.catalogue import Blame, fault
from tests.unit.mailserver import MailServer, listening, mail_server

OOPS = Fault(kind=FaultKind.OOPS, title="Oops in f (kernel/x.c:12)")
TO = "Maintainer <m@example.org>"
TEST = "testcases/a.py::test_t"


DIFF = "--- a/kernel/x.c\n+++ b/kernel/x.c\n@@ -1 +1 @@\n-one\n+two\n"
(PATCH,) = patches_from_file(DIFF.encode(), name="my series.patch")


@pytest.fixture
def server() -> Iterator[MailServer]:
    with mail_server() as running:
        yield running


@pytest.fixture
def history(tmp_path: Path) -> Path:
    """Nine good runs of a kernel, `old-0` to `old-8`; one with a patch that crashes, `new`, on another board, too."""
    path = tmp_path / "history.sqlite"
    with opened(path, writable=True) as connection:
        for number in range(9):
            add(connection, tmp_path, f"old-{number}", Result(test=TEST, verdict=Verdict.PASS), started=number)
        bad = Result(test=TEST, verdict=Verdict.CRASH, fault=OOPS)
        add(connection, tmp_path, "other", bad, started=98, patched=True, board="rpi4")
        add(connection, tmp_path, "new", bad, started=99, patched=True)
    return path


def add(
    connection: object,
    directory: Path,
    name: str,
    result: Result,
    *,
    started: float,
    patched: bool = False,
    board: str = "virt",
) -> None:
    kernel = KernelRecord(
        release="7.3.4",
        source=SourceRecord(spec="debian:@suite", version="7.3.4-1"),
        patches=(PatchRecord(name="a", sha256=PATCH.sha256),) if patched else (),
    )
    record = RunRecord(id=name, kernel=kernel, board=BoardRecord(name=board), suites=("testcases",))
    results = RunResults(record=record, results=(result,), started=1000 + started, ended=RunEnd(kind=EndKind.COMPLETE))
    run_dir = directory / name
    run_dir.mkdir()
    build = BuildRecord(
        key="k", kernel=kernel, reproduce="harness build --kernel debian:@suite --patches 'my series.mbox'"
    )
    (run_dir / "build.json").write_text(build_record_to_json(build))
    keep_patches((PATCH,) if patched else (), run_dir)
    add_run(connection, results, directory=run_dir)  # type: ignore[arg-type]


def request(history: Path, older: str = "old-8", newer: str = "new", **given: Any) -> MailRequest:
    words: dict[str, Any] = {"to": (TO,), "sender": "Lab <lab@lab.example>", "history": history} | given
    return MailRequest(older=older, newer=newer, **words)


def test_the_server_gets_the_mail(history: Path, server: MailServer) -> None:
    thread = ("<cover@example.org>", "patch-2@example.org")
    told = mail_about(request(history, smtp=server.address, in_reply_to=thread, to=(TO, "list@example.org"))).send()
    (mail,) = server.mails
    assert told == f"sent {mail['Message-ID']} to {TO}, list@example.org"
    assert (mail["From"], mail["To"]) == ("Lab <lab@lab.example>", f"{TO}, list@example.org")
    assert server.recipients == [["m@example.org", "list@example.org"]]
    assert (mail["In-Reply-To"], mail["References"]) == (
        "<patch-2@example.org>",
        "<cover@example.org> <patch-2@example.org>",
    )
    assert mail["Subject"] == "[harness] 7.3.4-1 + 1 patch on virt: 1 new failure"
    assert mail["Message-ID"].endswith("@lab.example>")
    text = mail.get_content()
    assert "NEW FAILURE: CRASH: Oops in f (kernel/x.c) [oops]" in text
    assert "elsewhere: CRASH (the same) on rpi4" in text
    assert command_in(text) == [
        *("harness", "run", "--kernel", "debian:@suite", "--patches", str(history.parent / "new/patches")),
        *("--board", "virt", "--suite", "testcases", "-k", "(test_t)"),
    ]


def command_in(text: str) -> list[str]:
    """The words of the command that reproduces it, as a shell reads them; none if there is no such command."""
    lines = itertools.takewhile(str.strip, text.replace("\r\n", "\n").partition("reproduce:\n")[2].split("\n"))
    return shlex.split("\n".join(lines).replace("\\\n", ""))  # as a shell does first


def test_the_command_names_patches_that_are_there(history: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was given when the kernel was first built may be gone, or hold another series now."""

    def patches() -> list[str]:
        words = command_in(str(mail_about(request(history))))
        return [word for before, word in itertools.pairwise(words) if before == "--patches"]

    kept, given = history.parent / "new/patches", history.parent / "my series.mbox"
    monkeypatch.chdir(history.parent)
    given.write_text(DIFF)
    assert patches() == [str(kept)]
    shutil.rmtree(kept)  # of a harness that kept none
    assert patches() == ["my series.mbox"]
    given.write_text(DIFF.replace("+two", "+three"))
    text = str(mail_about(request(history)))
    assert ("NEW FAILURE" in text, command_in(text)) == (True, [])
    given.unlink()
    assert command_in(str(mail_about(request(history)))) == []


def test_the_same_mail_has_the_same_message_id(history: Path, server: MailServer) -> None:
    for newer in ("new", "new", "other"):
        mail_about(request(history, newer=newer, smtp=server.address)).send()
    first, again, other = [mail["Message-ID"] for mail in server.mails]
    assert first == again != other


def test_letters_beyond_ascii_arrive(tmp_path: Path, server: MailServer) -> None:
    path = tmp_path / "h"
    with opened(path, writable=True) as connection:
        add(connection, tmp_path, "old", Result(test=TEST, verdict=Verdict.PASS), started=1, board="brettü")
        bad = Result(test=TEST, verdict=Verdict.FAIL, reason="größer als 3 · 5")
        add(connection, tmp_path, "new", bad, started=2, board="brettü", patched=True)
    mail_about(request(path, older="old", smtp=server.address)).send()
    (mail,) = server.mails
    assert mail["Subject"] == "[harness] 7.3.4-1 + 1 patch on brettü: 1 new failure"
    assert "NEW FAILURE: FAIL: größer als 3 · 5" in mail.get_content()


def test_where_nothing_is_new_no_server_is_needed(history: Path) -> None:
    with listening() as (address, _):
        pass
    told = mail_about(request(history, older="old-7", newer="old-8", smtp=address)).send()
    assert told == "nothing is new, nothing was sent"


def command(*words: str) -> click.testing.Result:
    return click.testing.CliRunner().invoke(cli, ["mail", *words])


def test_a_dry_run_prints_the_mail_and_sends_nothing(history: Path, server: MailServer) -> None:
    words = ["--history", str(history), "--from", "lab@lab.example", "--to", TO, "--smtp", server.address]
    told = command("old-8", "new", *words, "--dry-run")
    assert (told.exit_code, server.mails) == (0, [])
    lines = told.output.splitlines()
    assert {"From: lab@lab.example", f"To: {TO}", "Auto-Submitted: auto-generated"} < set(lines[: lines.index("")])
    assert "  * testcases/a.py::test_t" in lines
    assert command("old-8", "new", *words).output == f"sent {server.mails[0]['Message-ID']} to {TO}\n"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"to": ("nobody",)}, "--to: expected an address such as .*, found 'nobody'"),
        ({"to": ("a@example.org\nBcc: b@example.org",)}, "--to: expected an address"),
        ({"to": ("a@example.org, b@example.org",)}, "--to: expected an address"),
        ({"sender": "a@b@c"}, "--from: expected an address"),
        ({"in_reply_to": ("20260101",)}, "--in-reply-to: expected a Message-ID such as .*, found '20260101'"),
        ({"in_reply_to": ("<a@b>\r\nBcc: c@example.org",)}, "--in-reply-to: expected a Message-ID"),
        ({"in_reply_to": ("<a@b> <c@d>",)}, "--in-reply-to: expected a Message-ID"),
        ({"smtp": "host:mail"}, "--smtp: expected HOST or HOST:PORT, .*, found 'host:mail'"),
        ({"smtp": "host:70000"}, "--smtp: expected a port from 1 to 65535, found 70000"),
        ({"smtp": ""}, "--smtp: expected HOST or HOST:PORT, .*, found ''"),
        ({"smtp": "::1"}, r"--smtp: .* an IPv6 address as \[ADDRESS\] or \[ADDRESS\]:PORT, found '::1'"),
        ({"smtp": f"host:{'1' * 5000}"}, "--smtp: expected HOST or HOST:PORT, .*, found 'host:1111"),
    ],
)
def test_wrong_input_is_told(given: dict[str, Any], told: str, history: Path) -> None:
    with pytest.raises(UserError, match=told):
        mail_about(request(history, **given))


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("mx", Server(host="mx")),
        ("mx:26", Server(host="mx", port=26)),
        ("[::1]:26", Server(host="::1", port=26)),
        ("[::1]", Server(host="::1")),
    ],
)
def test_servers(text: str, server: Server) -> None:
    assert Server.parse(text) == server


HEADERS = {
    "From",
    "To",
    "Subject",
    "Date",
    "Message-ID",
    "Auto-Submitted",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
}


@fault(
    "a test's reason, a board's name and a kernel's version that hold the headers of a mail, and its end",
    where="hostile target", blame=Blame.NOBODY, survives="the mail, with its own headers only, to its own recipients",
)  # fmt: skip
def test_no_header_comes_from_a_target(tmp_path: Path, server: MailServer) -> None:
    path, hostile = tmp_path / "h", "x\r\nBcc: victim@example.org\r\n\r\n.\r\nMAIL FROM:<a@example.org>\r\n\udcff"
    with opened(path, writable=True) as connection:
        add(connection, tmp_path, "old", Result(test=hostile, verdict=Verdict.PASS), started=1, board=hostile[:-1])
        bad = Result(test=hostile, verdict=Verdict.FAIL, reason=hostile)
        add(connection, tmp_path, "new", bad, started=2, board=hostile[:-1], patched=True)
    mail_about(request(path, older="old", smtp=server.address)).send()
    (mail,) = server.mails
    assert set(mail.keys()) == HEADERS
    assert server.recipients == [["m@example.org"]]
    assert "Bcc" in mail["Subject"]
    assert "MAIL FROM:<a@example.org>" in mail.get_content()


def one(smtp_address: str) -> Mail:
    mail = message(
        subject="s",
        text="t\n",
        sender="a@example.org",
        to=[TO, "b@example.org"],
        in_reply_to=(),
        about=("x",),
        date=0.0,
    )
    return Mail(mail=mail, server=Server.parse(smtp_address))


def hastily(address: str) -> None:
    """Send a mail to a server that gets a fifth of a second."""
    mail = one(address)
    assert mail.mail is not None
    smtp.send(mail.mail, mail.server, limit=0.2)


@fault(
    "nobody listens at the mail server's port", where="network", blame=Blame.INFRA,
    survives="the history; sent again, the mail has the same Message-ID",
)  # fmt: skip
def test_a_mail_server_that_is_down(history: Path) -> None:
    with listening() as (address, _):
        pass
    with pytest.raises(InfraError, match=f"{address}: expected a mail server, found: Connection refused; name it with"):
        mail_about(request(history, smtp=address)).send()
    with mail_server() as later:
        mail_about(request(history, smtp=later.address)).send()
        assert len(later.mails) == 1


@pytest.mark.parametrize(
    ("answers", "refuses", "told"),
    [
        pytest.param(
            {"RCPT": "550 5.7.1 relaying denied"}, (), "it refused m@example.org: 550 5.7.1 relaying denied; b@example",
            marks=fault(
                "a mail server refuses all recipients", where="network", blame=Blame.INFRA,
                survives="its words in the message",
            ),
        ),
        pytest.param(
            {}, ("b@example.org",), "for all recipients, it refused b@example.org: 550 5.1.1 no such user",
            marks=fault(
                "a mail server refuses one of two recipients", where="network", blame=Blame.INFRA,
                survives="the other one's mail; the message names the one without",
            ),
        ),
        pytest.param(
            {"DATA": "552 \x1b[31mtoo much mail"}, (), "it answers: 552 too much mail",
            marks=fault(
                "a mail server refuses the mail itself, with an escape sequence in its words", where="network",
                blame=Blame.INFRA, survives="its words in the message, without the escape sequence",
            ),
        ),
    ],
)  # fmt: skip
def test_a_mail_server_that_refuses(
    answers: dict[str, str], refuses: tuple[str, ...], told: str, server: MailServer
) -> None:
    server.answers, server.refuses = answers, refuses
    with pytest.raises(InfraError) as raised:
        one(server.address).send()
    assert told in raised.value.message
    assert server.recipients == ([["m@example.org"]] if refuses else [])


@contextlib.contextmanager
def scripted(*answers: bytes) -> Iterator[str]:
    """A server that gives these answers, one a line of its client, and hangs up."""
    with listening() as (address, listener):

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as lines:
                for answer in answers:
                    connection.sendall(answer)
                    lines.readline()

        thread = threading.Thread(target=serve)
        thread.start()
        yield address
        thread.join()


@fault(
    "a mail server hangs up in the middle of the conversation", where="network", blame=Blame.INFRA,
    survives="the message says that the mail may have been taken, and that it can be sent again",
)  # fmt: skip
@pytest.mark.parametrize("answers", [[], [b"220 mx\r\n"], [b"220 mx\r\n", b"250 mx\r\n", b"250 OK\r\n"]])
def test_a_mail_server_that_hangs_up(answers: list[bytes]) -> None:
    with scripted(*answers) as address, pytest.raises(InfraError, match="it hung up; it may have taken it: sent again"):
        one(address).send()


@fault(
    "a mail server accepts the connection and says nothing", where="network", blame=Blame.INFRA,
    survives="the time limit holds; the message says that the mail can be sent again",
)  # fmt: skip
def test_a_mail_server_that_hangs() -> None:
    with listening() as (address, _), pytest.raises(InfraError, match="within 0 s, it did not answer in full; it may"):
        hastily(address)


@fault(
    "a mail server sends one byte after the other, without end", where="network", blame=Blame.INFRA,
    survives="the time limit holds for the whole conversation",
)  # fmt: skip
def test_a_mail_server_that_dribbles() -> None:
    is_over = threading.Event()

    def dribble(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            while not is_over.wait(0.02):
                connection.sendall(b"2")

    with listening() as (address, listener):
        thread = threading.Thread(target=dribble, args=(listener,))
        thread.start()
        with pytest.raises(InfraError, match="it did not answer in full"):
            hastily(address)
        is_over.set()
        thread.join()


def test_a_mail_that_was_taken_is_sent_whatever_the_server_makes_of_the_goodbye() -> None:
    answers = [b"220 mx\r\n", *[b"250 OK\r\n"] * 4, b"354 go on\r\n"]
    with listening() as (address, listener):

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as lines:
                for answer in answers:
                    connection.sendall(answer)
                    lines.readline()
                while lines.readline() != b".\r\n":
                    """The mail."""
                connection.sendall(b"250 taken\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        assert one(address).send().startswith("sent <harness-")
        thread.join()


def test_the_command_ends_with_the_exit_code_of_infrastructure(history: Path) -> None:
    with listening() as (address, _):
        pass
    words = [
        "mail",
        "old-8",
        "new",
        "--history",
        str(history),
        "--from",
        "a@example.org",
        "--to",
        TO,
        "--smtp",
        address,
    ]
    done = subprocess.run([sys.executable, "-m", "harness", *words], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (3, "")
    assert (
        done.stderr == f"harness: {address}: expected a mail server, found: Connection refused; name it with --smtp\n"
    )


def test_a_sender_is_needed(history: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.chdir(tmp_path)
    without = dataclasses.replace(request(history), sender="")
    with pytest.raises(UserError, match=r"--from: expected an address, or one in git's configuration \(user.email\)"):
        mail_about(without)
    (tmp_path / "gitconfig").write_text("[user]\n\tname = A B\n\temail = ab@example.org\n")
    assert "From: A B <ab@example.org>" in str(mail_about(without))
    (tmp_path / "gitconfig").write_bytes(b"[user]\n\tname = A \xdf\n\temail = ab@example.org\n")  # Latin-1
    assert "From: A \ufffd <ab@example.org>" in str(mail_about(without))
