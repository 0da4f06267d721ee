"""The mail about what changed between two runs."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path

from harness.build.finished import load_record
from harness.build.keptpatches import paths_of
from harness.campaign.gitconfig import git_user
from harness.campaign.history import sides
from harness.campaign.request import MailRequest
from harness.errors import HarnessError, UserError
from harness.model.history import Cell, Outcome, StoredRun
from harness.publish.message import message
from harness.publish.smtp import Server, send
from harness.report.compare import compare
from harness.report.mail_text import Background, mail_subject, mail_text
from harness.store import queries
from harness.store.database import Connection, history_file, opened

_MOST_RUNS = 1000
_MOST_CELLS = 20


@dataclass(frozen=True, kw_only=True)
class Mail:
    """A mail and where it goes; `mail` is None where nothing is new."""

    mail: EmailMessage | None
    server: Server

    def send(self) -> str:
        """Send the mail; return what to say."""
        if self.mail is None:
            return "nothing is new, nothing was sent"
        send(self.mail, self.server)
        return f"sent {self.mail['Message-ID']} to {self.mail['To']}"

    def __str__(self) -> str:
        """The mail as a person reads it."""
        if self.mail is None:
            return "nothing is new, nothing would be sent"
        headers = [f"{name}: {value}" for name, value in self.mail.items()]
        return "\n".join([*headers, "", self.mail.get_content()])


def mail_about(request: MailRequest) -> Mail:
    """Make the mail about two runs. Raises UserError for what is no address, server, Message-ID or run."""
    server = Server.parse(request.smtp)
    sender = request.sender or usual_sender()
    with opened(history_file(request.history)) as connection:
        old, new = sides(connection, request.older, request.newer)
        comparison = compare(old, new)
        background = Background(
            runs={run.id: run for side in (old, new) for run, _ in side.runs},
            elsewhere=_elsewhere(connection, new.run),
            command=command_of(new.run),
        )
    text = mail_text(comparison, background)
    mail = message(
        subject=mail_subject(comparison),
        text=text,
        sender=sender,
        to=request.to,
        in_reply_to=request.in_reply_to,
        about=(old.run.id, new.run.id),
        date=time.time(),
    )
    return Mail(mail=mail if text else None, server=server)


def _elsewhere(connection: Connection, new: StoredRun) -> Mapping[str, Sequence[tuple[Cell, Outcome]]]:
    """What each test did in the latest run of the same kernel in each other cell."""

    def identity(run: StoredRun) -> tuple[object, ...]:
        return (run.kernel.line, run.kernel.version, run.kernel.commit)

    latest: dict[Cell, StoredRun] = {}
    for run in queries.latest_runs(connection, limit=_MOST_RUNS):
        if run.cell != new.cell and identity(run) == identity(new):
            latest.setdefault(run.cell, run)
    found: dict[str, list[tuple[Cell, Outcome]]] = {}
    for cell, run in list(latest.items())[:_MOST_CELLS]:
        for outcome in queries.outcomes_of(connection, run.id):
            if outcome.repeat is None:
                found.setdefault(outcome.test, []).append((cell, outcome))
    return found


def command_of(run: StoredRun) -> tuple[str, ...]:
    """Return the words of a command that runs a run's kernel on its board again; empty if its directory is gone or says
    nothing, or if its patches are gone."""
    directory = Path(run.directory)
    try:
        record = load_record(directory)
        words = shlex.split(record.reproduce)
    except (HarnessError, OSError, ValueError):
        return ()
    if words[:2] != ["harness", "build"]:
        return ()
    given, others = _without_patches(words[2:])
    paths = paths_of(record.kernel.patches, directory=directory, given=given)
    if paths is None:
        return ()
    patches = [word for path in paths for word in ("--patches", str(path))]
    board = run.cell.board.partition(" (")[0]
    return ("harness", "run", *others, *patches, "--board", board)


def _without_patches(words: Sequence[str]) -> tuple[list[Path], list[str]]:
    """The values of --patches in a command, and its other words."""
    given, others = [], []
    following = iter(words)
    for word in following:
        if word == "--patches":
            given.append(Path(next(following, "")))
        else:
            others.append(word)
    return given, others


def usual_sender() -> str:
    """Return git's user. Raises UserError if git has none."""
    if user := git_user():
        return user
    raise UserError("--from: expected an address, or one in git's configuration (user.email); found neither")
