"""A queue of documents for a server, on the disk: what is in it arrives, whatever is killed and when.

``waiting/`` has what is to be sent; ``sent/`` a record of what the server has acknowledged, by the same name;
``refused/`` what it will never take. A name is made from the content, so the same document is never queued twice, nor
again after it was sent. A document leaves ``waiting/`` only when the record in ``sent/`` is on the disk. Whoever is
killed between the server's answer and that record sends the document again: no server can tell us that it has it
already, so documents must be such that the second one changes nothing."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness import shortage
from harness.errors import HarnessError, InfraError
from harness.lockfile import locked_file
from harness.products import rename_synced, sync


class Refused(InfraError):
    """The server will never take this document."""


@dataclass(frozen=True, kw_only=True)
class Sent:
    """What became of a queue: how many documents the server took; why it refused others."""

    taken: int = 0
    refused: tuple[str, ...] = ()


class Queue:
    """The queue in the directory `root`, which is made when it is needed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._waiting, self._sent, self._refused = (root / name for name in ("waiting", "sent", "refused"))

    def put(self, document: bytes) -> bool:
        """Queue a document; it is on the disk when this returns. False if it is there, or was sent before."""
        name = f"{hashlib.sha256(document).hexdigest()}.json"
        with self._locked():
            if any((directory / name).exists() for directory in (self._waiting, self._sent)):
                return False
            _write(self._waiting / name, document)
        return True

    def waiting(self) -> list[Path]:
        """Return the documents that wait, the oldest first."""
        found = [path for path in self._waiting.glob("*.json") if not path.name.startswith(".")]
        return sorted(found, key=lambda path: (path.stat().st_mtime_ns, path.name))

    def send(self, post: Callable[[bytes], str]) -> Sent:
        """Have `post` send all documents; it returns the server's id for one. Others that send wait until this ends.

        `post` raises Refused for a document that will never be taken, which is put aside, and another HarnessError for
        what may pass, which ends this; what was not sent stays."""
        taken, refused = 0, []
        with self._locked():
            for path in self.waiting():
                record = self._sent / path.name
                if not record.exists():
                    try:
                        answer = post(path.read_bytes())
                    except Refused as error:
                        self._refused.mkdir(exist_ok=True)
                        rename_synced(path, self._refused / path.name)
                        refused.append(f"{error.message}; it is in {self._refused / path.name}")
                        continue
                    except HarnessError as error:
                        raise type(error)(error.message, details=(*error.details, *refused)) from error
                    _write(record, json.dumps({"id": answer}).encode())
                    taken += 1
                path.unlink()
                sync(self._waiting)
        return Sent(taken=taken, refused=tuple(refused))

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the queue's lock. Raises InfraError if its directory can't be used."""
        try:
            for directory in (self.root, self._waiting, self._sent):
                directory.mkdir(parents=True, exist_ok=True)
            lock = locked_file(self.root / ".lock", wait=True)
            assert lock is not None
            try:
                for left in (*self._waiting.glob(".*.partial"), *self._sent.glob(".*.partial")):
                    left.unlink()  # of somebody who was killed
                yield
            finally:
                os.close(lock)
        except HarnessError:
            raise
        except OSError as error:
            kept = "what waits in the queue"
            raise shortage.of(error, where=self.root, kept=kept) or InfraError(
                f"{self.root}: expected a directory for what is to be sent, found: {error.strerror}; name another one"
                " with --queue"
            ) from error


def _write(path: Path, content: bytes) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(content)
    rename_synced(partial, path)
