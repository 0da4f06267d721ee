"""Downloads over HTTP that resume after an interruption and verify the result's checksum."""

from __future__ import annotations

import contextlib
import http.client
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from harness import shortage
from harness.build.checksum import CHUNK_BYTES, remember, sha256_of
from harness.errors import InfraError, UserError
from harness.limits import TREE_BYTES
from harness.model.progress import Progress
from harness.products import rename_synced

SOCKET_TIMEOUT_S = 30.0
MOST_TRIES = 50
PAUSES_S = (1.0, 3.0, 9.0)
AGENT = "arm64-ftrace-harness"
TEXT_LIMIT_BYTES = 16 << 20

Response = http.client.HTTPResponse
Sleep = Callable[[float], None]
Result = TypeVar("Result")


class NotThere(UserError):
    """The server answered that there is no such file (404 or 410)."""


class _Refused(InfraError):
    """Any other refusal."""

    def __init__(self, message: str, error: urllib.error.HTTPError) -> None:
        super().__init__(message)
        self.code = error.code
        self.content_range = error.headers["Content-Range"]


class _Interrupted(Exception):
    """A failure that is worth another try. `gained`: new bytes arrived before it."""

    def __init__(self, reason: str, *, gained: bool = False) -> None:
        super().__init__(reason)
        self.gained = gained


def fetch_text(url: str, *, sleep: Sleep = time.sleep) -> str:
    """Fetch a small text file. Raises NotThere, or InfraError if a few tries fail."""

    def once() -> str:
        with _opened(urllib.request.Request(url, headers={"User-Agent": AGENT})) as response:
            return response.read(TEXT_LIMIT_BYTES).decode(errors="replace")

    return _with_tries(url, once, sleep=sleep)


def fetch_file(url: str, target: Path, *, sha256: str, progress: Progress, sleep: Sleep = time.sleep) -> None:
    """Download `url` to `target`, which appears only when complete and of the right `sha256` (hex).

    An interrupted download in ``target.partial`` is resumed, even by a later call, if the server still has the same
    file. A complete file with the wrong checksum is removed and raises InfraError."""
    with shortage.reported(target.parent, kept="what has arrived; the next try resumes"):
        _fetch_file(url, target, sha256=sha256, progress=progress, sleep=sleep)


def _fetch_file(url: str, target: Path, *, sha256: str, progress: Progress, sleep: Sleep) -> None:
    partial = target.with_name(target.name + ".partial")
    tag = target.with_name(target.name + ".etag")
    target.parent.mkdir(parents=True, exist_ok=True)
    _with_tries(url, lambda: _continue(url, partial, tag, progress=progress), sleep=sleep)
    found = sha256_of(partial, progress=progress)
    tag.unlink(missing_ok=True)
    if found != sha256:
        partial.unlink()
        raise InfraError(
            f"{url}: wrong content, which was removed: expected sha256 {sha256}, found {found}; "
            "try again, and if that does not help, use another server"
        )
    try:
        rename_synced(partial, target)
    except OSError as error:
        unknown = InfraError(f"{target}: cannot be written: {error.strerror}")
        raise shortage.of(error, where=target.parent) or unknown from error
    remember(target, sha256)


def _with_tries(url: str, once: Callable[[], Result], *, sleep: Sleep) -> Result:
    """Call `once`, and again after a pause if that may help; a try that brought new bytes does not count as a
    failure."""
    failures = 0
    for _ in range(MOST_TRIES):
        try:
            return once()
        except _Interrupted as error:
            failures = 0 if error.gained else failures + 1
            if failures > len(PAUSES_S):
                break
            reason = str(error)
            sleep(PAUSES_S[max(failures - 1, 0)])
    raise InfraError(f"{url}: {reason}; gave up after several tries; check the network and try again, it resumes")


@contextlib.contextmanager
def _opened(request: urllib.request.Request) -> Iterator[Response]:
    """Open the request and yield the answer; a refusal or a failed connection becomes one of our exceptions."""
    url = request.full_url
    try:
        response = urllib.request.urlopen(request, timeout=SOCKET_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in (404, 410):
            raise NotThere(f"{url}: the server has no such file") from error
        if error.code >= 500 or error.code == 429:
            raise _Interrupted(f"the server answered {error.code} {error.reason}") from error
        raise _Refused(f"{url}: the server answered {error.code} {error.reason}", error) from error
    except (urllib.error.URLError, OSError, http.client.HTTPException, ValueError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(reason, ConnectionError | TimeoutError | http.client.HTTPException):
            raise _Interrupted(f"no connection: {reason}") from error
        raise InfraError(f"{url}: cannot be reached: {reason}; check the network and the proxy settings") from error
    with response:
        yield response


def _continue(url: str, partial: Path, tag: Path, *, progress: Progress) -> None:
    """Fetch the rest of `partial`. `tag` stores the server's identification of the file's version (ETag or date)."""
    have = partial.stat().st_size if partial.exists() else 0
    headers = {"User-Agent": AGENT}
    if have:
        headers["Range"] = f"bytes={have}-"
        if tag.exists():
            headers["If-Range"] = tag.read_text()
    try:
        with _opened(urllib.request.Request(url, headers=headers)) as response:
            resumed = response.status == 206
            if resumed and not (response.headers["Content-Range"] or "").startswith(f"bytes {have}-"):
                partial.unlink()
                raise _Interrupted("the server resumed at the wrong place")
            _keep_validator(response, tag)
            _receive(response, partial, have=have if resumed else 0, progress=progress)
    except _Refused as error:
        if error.code != 416 or not have:
            raise
        # No bytes beyond ours: the file is complete, or it changed and the checksum will show that.
        if error.content_range != f"bytes */{have}":
            partial.unlink()
            raise _Interrupted("the file on the server became shorter") from error


def _receive(response: Response, partial: Path, *, have: int, progress: Progress) -> None:
    length = response.headers["Content-Length"]
    total = have + int(length) if length else None
    done = have
    label = partial.name.removesuffix(".partial")
    _check_size(total or 0, partial)
    needed = f"{shortage.told_size(total - have)} for the rest of {label}" if total else ""
    try:
        file = partial.open("ab" if have else "wb")
    except OSError as error:
        raise _unwritable(partial, error, needed=needed) from error
    with file:
        while True:
            try:
                chunk = response.read(CHUNK_BYTES)
            except (ConnectionError, TimeoutError, ssl.SSLError, http.client.HTTPException) as error:
                raise _Interrupted(f"the connection broke: {error}", gained=done > have) from error
            if not chunk:
                break
            try:
                file.write(chunk)
                file.flush()
            except OSError as error:
                raise _unwritable(partial, error, needed=needed) from error
            done += len(chunk)
            _check_size(done, partial)
            progress.advance(label, done, total)
    # http.client does not complain about a short answer that is read in pieces.
    if total is not None and done < total:
        raise _Interrupted(f"the connection broke at {done} of {total} bytes", gained=done > have)


def _check_size(size: int, partial: Path) -> None:
    """Raise UserError, and remove what has arrived, if that is more than could be unpacked: a server may send without
    end."""
    try:
        TREE_BYTES.check(size, place=partial.name.removesuffix(".partial"))
    except UserError:
        partial.unlink(missing_ok=True)
        raise


def _unwritable(partial: Path, error: OSError, *, needed: str) -> InfraError:
    short = shortage.of(error, where=partial, needed=needed, kept="what has arrived; the next try resumes")
    return short or InfraError(f"{partial}: cannot be written: {error.strerror}")


def _keep_validator(response: Response, tag: Path) -> None:
    validator = response.headers["ETag"] or ""
    if not validator or validator.startswith("W/"):
        validator = response.headers["Last-Modified"] or ""
    if validator:
        tag.write_text(validator)
    else:
        tag.unlink(missing_ok=True)
