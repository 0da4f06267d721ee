"""What a user would otherwise boot with, for bench/boot.py: labgrid, virtme-ng and tuxrun, each from pip in a virtual
environment of its own in the harness's cache. They get our QEMU, kernel, root and payload, and as far as they let us
choose, the same machine and init."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from harness.build.cache import cache_dir
from harness.model.board import BoardSpec
from harness.target.base import Media
from harness.target.methods.qemu import QEMU, command_line, own_storage, pick_accel, qemu_boot

LIMIT_S = 120.0
_INSTALL_S = 900.0


class Unusable(Exception):
    """A peer that can't be installed or can't boot this, and why."""


def whole(words: Sequence[str | Path], directory: Path, environment: Mapping[str, str] | None = None) -> float:
    """Seconds of a command in `directory`, from exec to exit. Unusable where it fails; what it started goes with it."""
    seconds, _ = _run(words, directory, environment)
    return seconds


def _run(
    words: Sequence[str | Path], directory: Path, environment: Mapping[str, str] | None = None
) -> tuple[float, str]:
    log = directory / f"{Path(words[0]).name}.log"
    begun = time.monotonic()
    with log.open("w") as output:
        process = subprocess.Popen(
            words,
            cwd=directory,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            code: int | None = process.wait(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    said = log.read_text(errors="replace")
    if code != 0:
        what = f"exit code {code}" if code is not None else f"no end within {LIMIT_S:.0f} s"
        last = " | ".join([line.strip() for line in said.splitlines() if line.strip()][-4:])
        raise Unusable(f"{Path(words[0]).name}: {what}: {last[-500:]}")
    return time.monotonic() - begun, said


def _installed(package: str) -> Path:
    """The bin/ of a virtual environment that has `package`, made when missing."""
    directory = cache_dir("bench") / package
    done = directory / "installed"
    if not done.exists():
        venv.create(directory, with_pip=True, clear=True)
        words: list[str | Path] = [directory / "bin/pip", "install", "--quiet", package]
        try:
            subprocess.run(words, check=True, capture_output=True, text=True, timeout=_INSTALL_S)
        except subprocess.CalledProcessError as error:
            raise Unusable(f"pip can't install it: {error.stderr.strip()[-300:]}") from None
        except subprocess.TimeoutExpired:
            raise Unusable(f"pip did not install it within {_INSTALL_S:.0f} s") from None
        done.touch()
    return directory / "bin"


def _version(package: str, bin_dir: Path) -> str:
    code = f"from importlib.metadata import version; print(version({package!r}))"
    said = subprocess.run([bin_dir / "python", "-c", code], capture_output=True, text=True, timeout=60.0, check=True)
    return f"{package} {said.stdout.strip()}"


def _option(words: Sequence[str], name: str) -> str:
    return words[words.index(name) + 1]


class Peer(Protocol):
    """`once` boots, and returns the seconds until the first command was answered."""

    version: str

    def once(self) -> float: ...


class Labgrid:
    """QEMUDriver and ShellDriver on hvc0, where our init has a bash; the kernel's log has ttyAMA0 to itself, as with
    us. Timed inside its process, from activating the drivers to the first command's answer."""

    _DRIVER = """
import sys, time
from labgrid import Environment
target = Environment(sys.argv[1]).get_target("main")
begun = time.monotonic()
qemu = target.get_driver("QEMUDriver")
qemu.on()
target.get_driver("ShellDriver").run_check("true")
print("seconds", time.monotonic() - begun)
qemu.off()
"""

    def __init__(self, board: BoardSpec, media: Media, directory: Path) -> None:
        self._bin = _installed("labgrid")
        self.version = _version("labgrid", self._bin)
        self._directory = directory
        self._config = directory / "labgrid.yaml"
        accel, _ = pick_accel(qemu_boot(board).accel)
        words = command_line(board, media, own_storage(media), fds={}, accel=accel)
        taken = {name: _option(words, name) for name in ("-M", "-cpu", "-m", "-kernel", "-append")}
        drivers = {
            "QEMUDriver": {
                "qemu_bin": "qemu",
                "machine": taken["-M"],
                "cpu": taken["-cpu"],
                "memory": taken["-m"] + "M",
                "kernel": "kernel",
                "boot_args": taken["-append"],
                "extra_args": shlex.join([*self._channels(), *self._rest(words[words.index(QEMU) + 1 :], taken)]),
            },
            "ShellDriver": {"prompt": r"(?:\x1b\[\?2004h)?target# ", "login_prompt": "login: ", "username": "root"},
        }
        config = {"targets": {"main": {"drivers": drivers}}}
        places = {"tools": {"qemu": shutil.which(QEMU)}, "images": {"kernel": taken["-kernel"]}}
        self._config.write_text(json.dumps(config | places))  # JSON is YAML

    def _channels(self) -> list[str]:
        words = ["-chardev", f"file,id=kernel,path={self._directory / 'labgrid-console.log'}"]
        for channel in ("cmd", "aux"):
            words += ["-chardev", f"null,id={channel}"]
        return words

    def _rest(self, words: Sequence[str], taken: Mapping[str, str]) -> list[str]:
        """Our arguments without those that labgrid gives itself; hvc0 is what it takes for its serial line."""
        kept: list[str] = []
        flags = iter(words)
        for flag in flags:
            value = "" if flag in ("-nodefaults", "-no-user-config", "-no-reboot") else next(flags)
            if flag not in taken and flag not in ("-display", "-mon"):
                kept += [flag, *([value.replace("chardev=tty", "chardev=serialsocket")] if value else [])]
        return kept

    def once(self) -> float:
        words: list[str | Path] = [self._bin / "python", "-c", self._DRIVER, self._config]
        _, said = _run(words, self._directory)
        return float(said.rpartition("seconds ")[2])


class Virtme:
    """`vng` with the root image as its disk. It needs a kernel with 9p or virtiofs, for its guest tools come so."""

    def __init__(self, board: BoardSpec, media: Media, directory: Path) -> None:
        self._bin = _installed("virtme-ng")
        self.version = _version("virtme-ng", self._bin)
        self._directory = directory
        boot = qemu_boot(board)
        self._words: list[str | Path] = [
            *(self._bin / "vng", "--run", media.image, "--arch", "arm64", "--root-disk", media.root),
            *("--root-dev", "/dev/vda", "--cpus", str(boot.cpus), "--memory", f"{boot.memory_mib}M"),
            *(f"--qemu-opts=-cpu {boot.cpu}", "--verbose", "--exec", "true"),
        ]

    def once(self) -> float:
        try:
            return whole(self._words, self._directory, {"PATH": f"{self._bin}:{os.environ['PATH']}"})
        except Unusable as why:
            said = (self._directory / "vng.log").read_text(errors="replace").splitlines()
            telling = [line.strip() for line in said if "unknown filesystem" in line or "Kernel panic" in line]
            raise Unusable(" | ".join(telling) or str(why)) from None


class Tuxrun:
    """`tuxrun --runtime null`, which runs LAVA on this host; its containers are left out."""

    def __init__(self, board: BoardSpec, media: Media, directory: Path) -> None:
        self._bin = _installed("tuxrun")
        self.version = _version("tuxrun", self._bin)
        self._directory = directory
        if not shutil.which("lava-run"):
            raise Unusable(
                f"{self.version}: --runtime null needs LAVA's dispatcher on this host (lava-run is not on PATH); "
                "its other runtimes are containers"
            )
        self._words: list[str | Path] = [
            *(self._bin / "tuxrun", "--runtime", "null", "--device", "qemu-arm64", "--kernel", media.image),
            *("--rootfs", media.root, "--prompt", "target# ", "--", "true"),
        ]

    def once(self) -> float:
        return whole(self._words, self._directory, {"PATH": f"{self._bin}:{os.environ['PATH']}"})


PEERS: dict[str, Callable[[BoardSpec, Media, Path], Peer]] = {"labgrid": Labgrid, "virtme-ng": Virtme, "tuxrun": Tuxrun}

if __name__ == "__main__":
    sys.exit("run bench/boot.py")
