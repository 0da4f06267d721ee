"""Snapshots of QEMU machines: save a booted machine in a directory, and start any number of others from it.

Memory is a file that the first machine writes and later ones map privately, so starting one reads no memory and many
share what they do not change (QEMU calls leaving it out of the state ``x-ignore-shared``; where it can't, the state has
it). Disks are overlays of the first one, and overlays of those."""

from __future__ import annotations

import json
import secrets
import shlex
import shutil
import subprocess
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness import jsonfile, shortage
from harness.errors import InfraError
from harness.model.board import BoardSpec
from harness.target.base import CommandTimeout, Cpus, Media, Target, TargetLost
from harness.target.methods.qemu import (
    QEMU,
    QemuTarget,
    Storage,
    boot_with,
    qemu_boot,
    start,
)
from harness.target.methods.qemuhost import last_words
from harness.target.methods.qemuoptions import escaped

THAW = "/payload/bin/thaw"  # sets the clock, reseeds the random number generator: build/overlay/thaw.c
_SAVE_LIMIT_S = 120.0
_POLL_S = 0.005  # QEMU 7.0 sends no event for this unless it is asked to
_RECORD = "snapshot.json"
_MAPPED = [{"capability": "x-ignore-shared", "state": True}]


class Snapshots:
    """One snapshot in `directory`: `boot`, then `save`, then `restore` as often as wanted, by any process."""

    def __init__(self, board: BoardSpec, media: Media, directory: Path, *, logs: Path) -> None:
        self._board = board
        self._media = media
        self._directory = directory
        self._logs = logs

    @property
    def is_saved(self) -> bool:
        """Whether the snapshot exists and is complete."""
        return (self._directory / _RECORD).is_file()

    def boot(self) -> QemuTarget:
        """Boot a machine that `save` can save; raises the exceptions of booting."""
        (self._directory / "ram").unlink(missing_ok=True)  # an earlier machine's
        for serial, disk in self._disks():
            _make_overlay(self._directory / f"{serial}.qcow2", disk)
        return boot_with(self._storage(shared=True), self._board, self._media, logs=self._logs)

    def save(self, target: Target) -> None:
        """Save the state of `target`, which `boot` returned and nobody uses now, and close it. Raises InfraError if
        QEMU can't save it."""
        assert isinstance(target, QemuTarget)
        try:
            mapped = _can_map(target)
            _checked(target.monitor("stop"))
            partial = self._directory / "state.partial"
            partial.touch()
            written, state = shlex.quote(str(partial)), shlex.quote(str(self._directory / "state"))
            _checked(target.monitor("migrate", uri=f"exec:cat > {written} && mv {written} {state} || rm -f {written}"))
            deadline = time.monotonic() + _SAVE_LIMIT_S
            while (answer := _checked(target.monitor("query-migrate"))).get("status") != "completed":
                if answer.get("status") in ("failed", "cancelled") or time.monotonic() > deadline:
                    raise self._unsaved(f"QEMU can't save the machine: {answer.get('error-desc', answer)}")
                time.sleep(_POLL_S)
            while partial.exists():  # what QEMU has sent may still be on its way to the disk
                if time.monotonic() > deadline:
                    raise InfraError(f"snapshot: {partial}: not written within {_SAVE_LIMIT_S:.0f} s")
                time.sleep(_POLL_S)
            if not (self._directory / "state").exists():
                raise self._unsaved("the machine's state could not be written; see qemu.log")
        except OSError as error:
            raise self._failed(error) from None
        finally:
            target.close()
        record = {"mapped": mapped, "made_with": self._made_with(), "files": self._files()}
        try:
            (self._directory / _RECORD).write_text(json.dumps(record, indent=2) + "\n")
        except OSError as error:
            raise self._failed(error) from None

    def _unsaved(self, what: str) -> InfraError:
        """Why the state is not there: QEMU's log has the messages of what writes it."""
        told = [*last_words(self._logs / "qemu.log"), what]
        needed = f"up to {qemu_boot(self._board).memory_mib} MiB for the machine's memory"
        short = shortage.said(told, what="snapshot", where=self._directory, needed=needed)
        return short or InfraError(f"snapshot: {self._directory}: {what}")

    def _failed(self, error: OSError) -> InfraError:
        unknown = InfraError(f"snapshot: {error.filename}: {error.strerror}")
        return shortage.of(error, where=self._directory) or unknown

    def restore(self, why: str, *, cpus: Cpus = Cpus.SIDE_BY_SIDE) -> QemuTarget:
        """Start a machine in the saved state, set its clock and reseed its random numbers; its console log begins with
        `why`. Raises InfraError if that fails, or if the snapshot was made with other files or another QEMU than there
        are now. With Cpus.SEEING_PATCHES, emulated CPUs run in turns."""
        record = self._record()
        for what, now in self._made_with().items():
            if record["made_with"].get(what) != now:
                raise InfraError(f"snapshot: it was made with another {what}, which has changed since; start again")
        started = time.monotonic()
        with shortage.reported(self._logs), (self._logs / "console.log").open("a") as log:
            log.write(f"--- {why}\n")
        with (self._directory / "state").open("rb") as state:
            storage = self._storage(shared=False, inherited=(state.fileno(),))
            # emulation with a thread for each CPU may lose a changed instruction (docs/guest-speed.md)
            more, in_turns = ("-incoming", "defer"), cpus is Cpus.SEEING_PATCHES
            target = start(self._board, self._media, storage, logs=self._logs, more=more, in_turns=in_turns)
        try:
            self._resume(target, state=storage.inherited[0], mapped=record["mapped"])
        except (TargetLost, CommandTimeout) as error:
            target.close()
            raise InfraError(f"snapshot: the restored machine does not answer: {error.message}") from None
        except BaseException:
            target.close()
            raise
        target.boot_seconds = time.monotonic() - started
        return target

    def _record(self) -> dict[str, Any]:
        """Read the record. Raises InfraError if it, or a file of the snapshot, is not as it was saved: QEMU would start
        from half a state, which looks like a kernel that hangs."""
        advice = "only this run writes there: see the disk, and start again"
        try:
            record = jsonfile.read_object(self._directory / _RECORD)
            recorded, now = record["files"], self._files()
        except (OSError, ValueError, KeyError, TypeError) as error:
            found = error.strerror if isinstance(error, OSError) else repr(error)
            place = f"snapshot: {self._directory / _RECORD}"
            raise InfraError(f"{place}: expected its record, found: {found}; {advice}") from None
        for name, stamp in recorded.items():
            if now.get(name) != stamp:
                found = f"{now[name][2]} bytes that were changed later" if name in now else "none"
                place = f"snapshot: {self._directory / name}"
                raise InfraError(f"{place}: damaged: expected the {stamp[2]} bytes saved, found {found}; {advice}")
        return record

    def _files(self) -> dict[str, list[Any]]:
        """Return what identifies the contents of the snapshot's files."""
        names = ["state", "ram", *(f"{serial}.qcow2" for serial, _ in self._disks())]
        return {name: _stamp(self._directory / name) for name in names if (self._directory / name).exists()}

    def _resume(self, target: QemuTarget, *, state: int, mapped: bool) -> None:
        if mapped:
            _checked(target.monitor("migrate-set-capabilities", capabilities=_MAPPED))
        _checked(target.monitor("migrate-incoming", uri=f"fd:{state}"))
        # `cont` before the state is read would be lost: the state says that the machine was stopped
        deadline = time.monotonic() + self._board.limits.boot
        while (status := _checked(target.monitor("query-status")))["status"] == "inmigrate":
            if time.monotonic() > deadline:
                raise InfraError(
                    f"snapshot: QEMU does not read the state within {self._board.limits.boot:.0f} s: {status}"
                )
            time.sleep(_POLL_S)
        _checked(target.monitor("cont"))
        now, seed = f"{time.time():.6f}", secrets.token_hex(32)
        done = target.run(f"{THAW} {now} {seed}", timeout=self._board.limits.boot)
        if not done.ok:
            raise InfraError(f"snapshot: {THAW} ended with exit code {done.returncode}: {done.output.strip()}")

    def _disks(self) -> list[tuple[str, Path]]:
        disks = (("root", self._media.root), ("payload", self._media.payload))
        return [(serial, disk) for serial, disk in disks if disk]

    def _storage(self, *, shared: bool, inherited: tuple[int, ...] = ()) -> Storage:
        memory = (
            f"memory-backend-file,id=ram,size={qemu_boot(self._board).memory_mib}M,"
            f"mem-path={escaped(self._directory / 'ram')},share={'on' if shared else 'off'}"
        )
        forgetting = "" if shared else ",snapshot=on"
        drives = tuple(
            (serial, f"format=qcow2,file={escaped(self._directory / f'{serial}.qcow2')}{forgetting}")
            for serial, _ in self._disks()
        )
        return Storage(machine=",memory-backend=ram", memory=("-object", memory), drives=drives, inherited=inherited)

    def _made_with(self) -> dict[str, Any]:
        """Return the properties that must be the same when a snapshot is restored, as far as they are known without
        reading it."""
        files = {"QEMU": Path(shutil.which(QEMU) or QEMU), "kernel": self._media.image}
        files |= {"initramfs": self._media.initramfs} if self._media.initramfs else {}
        files |= {f"{serial} disk": disk for serial, disk in self._disks()}
        told: dict[str, Any] = {name: _stamp(path) for name, path in files.items()}
        return told | {"board entry": [json.loads(json.dumps(asdict(qemu_boot(self._board)))), self._board.cmdline]}


def _can_map(target: QemuTarget) -> bool:
    """Make QEMU leave the memory out of the state, because it is in a file; return False if this QEMU can't."""
    answer = target.monitor("migrate-set-capabilities", capabilities=_MAPPED)
    if "error" in answer and "class" not in answer["error"]:
        _checked(answer)  # it has not refused: it has not answered
    return "error" not in answer


def _stamp(path: Path) -> list[object]:
    try:
        found = path.stat()
    except OSError as error:
        raise InfraError(f"snapshot: {path}: {error.strerror}") from None
    return [str(path), found.st_ino, found.st_size, found.st_mtime_ns]


def _make_overlay(path: Path, disk: Path) -> None:
    words = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(disk.absolute()), str(path)]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=60.0, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InfraError(f"snapshot: qemu-img: {error}") from None
    if done.returncode:
        if short := shortage.said(done.stderr.splitlines(), what="snapshot: qemu-img", where=path):
            raise short
        raise InfraError(f"snapshot: qemu-img ended with exit code {done.returncode}: {done.stderr.strip()}")


def _checked(answer: dict[str, Any]) -> dict[str, Any]:
    """Return what the monitor answered; raises InfraError if it refused."""
    if "error" in answer:
        refusal = f"QEMU refuses: {answer['error'].get('desc')}"
        raise shortage.said([refusal], what="snapshot") or InfraError(f"snapshot: {refusal}")
    return answer
