"""Publishing the results of runs: to KCIDB, by way of a queue on the disk, and for Patchwork."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from urllib.parse import urlsplit

import platformdirs

from harness.build.finished import load_record
from harness.campaign.request import KcidbRequest
from harness.errors import HarnessError, InfraError, UserError
from harness.limits import OUTSIDE_BYTES
from harness.model.names import as_name
from harness.model.record import BuildRecord
from harness.publish.kcidb import KcidbServer
from harness.publish.queue import Queue
from harness.report.kcidb import Submitter, is_origin, submission
from harness.report.patchwork import LONGEST_URL, checks_json
from harness.report.text import one_line
from harness.run.documents import read_results

_TOKEN = "HARNESS_KCIDB_TOKEN"


def kcidb_documents(request: KcidbRequest) -> list[bytes]:
    """Return a submission for each run, the same bytes each time. Raises UserError for what is no run or no name."""
    if request.runs and not is_origin(request.origin):
        raise UserError(
            "--origin: expected your CI system's name in KCIDB (small letters, digits and _), found "
            f"{one_line(request.origin, 60)!r}"
        )
    if request.files_url:
        _check_url(request.files_url, "--files-url")
    submitter = Submitter(origin=request.origin, tree=one_line(request.tree, 100), files_url=request.files_url)
    documents = []
    for run_dir in request.runs:
        found = submission(read_results(run_dir), _record(run_dir), submitter)
        documents.append(json.dumps(found, sort_keys=True, allow_nan=False).encode())
    return documents


def publish_kcidb(request: KcidbRequest) -> str:
    """Queue the runs, and send all that waits; return what to say.

    Raises UserError as `kcidb_documents`, or if the server or the token is wrong, and InfraError if the server is away
    or refuses a document. What was not sent stays in the queue."""
    documents = kcidb_documents(request)
    server = KcidbServer(url=request.server, token=_token(request.token_file)).checked()
    queue = Queue(_directory(request))
    new = sum(queue.put(document) for document in documents)
    try:
        sent = queue.send(server.post)
    except HarnessError as error:
        left = len(queue.waiting())
        kept = f"{left} {'waits' if left == 1 else 'wait'} in {queue.root}; `harness publish kcidb` sends what waits"
        raise type(error)(f"{error.message}; {kept}", details=error.details) from error
    if sent.refused:
        raise InfraError(f"{len(sent.refused)} of {len(sent.refused) + sent.taken} were refused", details=sent.refused)
    known = len(request.runs) - new
    return f"{sent.taken} sent" + (f"; {known} queued or sent before" if known else "")


def patchwork_checks(run_dir: Path, *, url: str, prefix: str) -> str:
    """Return a run's checks for Patchwork as JSON. Raises UserError for what is no run or address."""
    if url:
        _check_url(url, "--target-url")
    if len(url) > LONGEST_URL:
        raise UserError(f"--target-url: expected at most {LONGEST_URL} characters, as Patchwork does, found {len(url)}")
    return checks_json(read_results(run_dir), url=url, prefix=prefix)


def _record(run_dir: Path) -> BuildRecord:
    with contextlib.suppress(UserError):  # of an older harness, or of a run that began badly
        return load_record(run_dir)
    return BuildRecord()


def _directory(request: KcidbRequest) -> Path:
    """Return the directory of the server's queue: what waits for one server is not for another."""
    base = request.queue or platformdirs.user_state_path("arm64-ftrace-harness", appauthor=False) / "kcidb"
    digest = hashlib.sha256(request.server.rstrip("/").encode()).hexdigest()[:8]
    return base / f"{as_name(urlsplit(request.server).hostname or '', longest=40)}-{digest}"


def _check_url(url: str, option: str) -> None:
    try:
        parts = urlsplit(url)
        is_good = parts.scheme in ("http", "https") and bool(parts.hostname) and url.isascii() and url.isprintable()
    except ValueError:
        is_good = False
    if not is_good or any(letter in url for letter in ' "<>\\^`{|}'):
        raise UserError(f"{option}: expected an http or https address, found {one_line(url, 80)!r}")


def _token(file: Path | None) -> str:
    if not file:
        return os.environ.get(_TOKEN, "").strip()
    try:
        token = OUTSIDE_BYTES.read(file).decode().strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise UserError(f"--token-file: expected a file with a token at {file}, can't read it: {reason}") from None
    if not token:
        raise UserError(f"--token-file: expected a token in {file}, found none")
    return token
