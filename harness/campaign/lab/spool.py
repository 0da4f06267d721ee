"""What a worker keeps until the plan's process has fetched it: the results of finished cells.

    KEY/run, KEY/run.log     the files of a run that goes on, or was cut short
    KEY/results.tar.gz       the same once it has ended
    KEY/done.json            how it ended; written last: with it the results are complete
    KEY.lock                 locked by whoever runs the cell

All workers of a user on a host share one spool. So whichever of them is asked for a cell that is done finds it, and a
cell is run by one of them at a time."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from harness import jsonfile, shortage
from harness.build.cache import locked, try_locked
from harness.campaign.lab import parcels
from harness.errors import InfraError
from harness.model.lab import Done, Parcel
from harness.products import rename_synced

RUN, LOG = "run", "run.log"
_RESULTS, _DONE = "results.tar.gz", "done.json"
_KEY = re.compile("[0-9a-f]{64}")
_DAY_S = 86400.0
_DAYS = 14.0


class Spool:
    """The finished cells below `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def finished(self, key: str) -> Done | None:
        """Return how the run of a cell ended that came to its own end; None if none did, or if it was fetched."""
        try:
            told = jsonfile.read_object(self.place(key) / _DONE)
            done = Done(**{**told, "results": Parcel(**told["results"])})
        except (OSError, ValueError, TypeError, KeyError):
            return None
        return None if done.was_ended else done

    def keys(self) -> tuple[str, ...]:
        """The cells that are finished and not fetched."""
        there = (path.parent.name for path in self._root.glob(f"*/{_DONE}"))
        return tuple(key for key in there if _KEY.fullmatch(key) and self.finished(key))

    @contextlib.contextmanager
    def held(self, key: str) -> Iterator[None]:
        """Keep other workers of this host from running the same cell; waits for one that does."""
        with locked(self.place(key).with_suffix(".lock")):
            yield

    def begin(self, key: str) -> Path:
        """Make an empty directory for a cell, whose lock the caller holds. What an earlier run of it left that did not
        come to its end is kept under another name."""
        place = self.place(key)
        with shortage.reported(place):
            if place.exists():
                place.rename(place.with_name(f"{key[:16]}.cut-short-{secrets.token_hex(4)}"))
            place.mkdir(parents=True)
        return place

    def finish(self, key: str, *, code: int, last_line: str, was_ended: bool) -> Done:
        """The run in a cell's directory has ended: keep its files until they are fetched. Raises InfraError."""
        place = self.place(key)
        results = parcels.pack(place / RUN, place / _RESULTS, name=RUN, also=(place / LOG,))
        done = Done(code=code, last_line=last_line, results=results, was_ended=was_ended)
        partial = place / f".{_DONE}.partial"
        with shortage.reported(place):
            partial.write_text(json.dumps(dataclasses.asdict(done)))
            rename_synced(partial, place / _DONE)
            shutil.rmtree(place / RUN, ignore_errors=True)
            (place / LOG).unlink(missing_ok=True)
        return done

    def read(self, key: str, offset: int) -> bytes:
        """Return a chunk of a finished cell's results. Raises InfraError."""
        try:
            return parcels.read_chunk(self.place(key) / _RESULTS, offset)
        except OSError as error:
            raise InfraError(f"the results of a cell can't be read: {error.strerror}; it has to run again") from None

    def drop(self, key: str) -> None:
        """The results of a cell were fetched, and are on the disk there."""
        (self.place(key) / _DONE).unlink(missing_ok=True)
        shutil.rmtree(self.place(key), ignore_errors=True)

    def clear(self) -> None:
        """Remove what nobody has fetched for two weeks."""
        for path in (path for path in self._root.glob("*") if path.is_dir()):
            with contextlib.suppress(OSError), try_locked(self._root / f"{path.name}.lock") as is_free:
                if is_free and time.time() - path.stat().st_mtime > _DAYS * _DAY_S:
                    shutil.rmtree(path, ignore_errors=True)
        for lock in self._root.glob("*.lock"):
            with try_locked(lock) as is_free:
                if is_free and not lock.with_suffix("").exists():
                    lock.unlink(missing_ok=True)

    def place(self, key: str) -> Path:
        """The directory of a cell."""
        if not _KEY.fullmatch(key):
            raise InfraError(f"expected the key of a cell, found {key[:80]!r}")
        return self._root / key
