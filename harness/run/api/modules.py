"""The testcases' own kernel modules, unloaded at the end of every ``with``."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator

import pytest

from harness.errors import InfraError
from harness.model.kernel import Build
from harness.model.known import version_of
from harness.run.api import insmod, ours
from harness.run.api.guest import Guest, number
from harness.run.api.insmod import DIRECTORY as DIRECTORY

_DEBUGFS = "/sys/kernel/debug"
_FULL_REGION = "RANDOMIZE_MODULE_REGION_FULL"
_FILL = {"far": "and far away", "farthest": "near", "above": "and below"}  # the argument of near_filler
_ROOM = {"far": "just beyond a branch's reach", "farthest": "beyond a branch's reach", "above": "above the kernel"}
REACH_BYTES = 128 << 20  # bytes that a direct branch reaches, either way


class Module:
    """One of our modules. Files in debugfs trigger its actions (testcases/harness_test.h)."""

    def __init__(self, guest: Guest, name: str) -> None:
        self._guest = guest
        self.name = name
        self.files = f"{_DEBUGFS}/harness-{name}"

    def insert(self, **parameters: object) -> None:
        """insmod, with module parameters. If that fails, the test is skipped where this kernel lacks what the module
        needs, it is an InfraError where the module can't be had here at all, and else the test fails: the kernel
        refuses the module."""
        done = self._guest.run(_insmod(self.name, parameters))
        if not done.ok:
            insmod.not_inserted(self._guest, self.name, done.output)

    def remove(self) -> None:
        """rmmod."""
        self._guest.check(f"rmmod {self.name}")

    def distances(self) -> tuple[int, int]:
        """Two distances in bytes, from /proc/kallsyms: between the module's text and the nearest text of the kernel,
        and the largest one between the module's text and ftrace_caller, which its calls have to reach."""
        # cached by address: the file has every symbol, and reading it is slow
        text = self._guest.read(f"/sys/module/{self.name}/sections/.text")
        return self._guest.once((self.name, text), self._measured)

    def _measured(self) -> tuple[int, int]:
        wanted = "_text|_etext|ftrace_caller"
        found = self._guest.check(f"grep -E ' ({wanted})$| [tT] .*\\[{self.name}\\]$' /proc/kallsyms")
        lines = [line.split() for line in found.splitlines()]
        rows = [(number(row[0], "/proc/kallsyms", base=16), row[2], len(row)) for row in lines if len(row) > 2]
        kernel = {name: address for address, name, columns in rows if columns == 3}
        ours = [address for address, _, columns in rows if columns > 3]
        lacking = [name for name in wanted.split("|") if name not in kernel] or ([] if ours else [self.name])
        assert not lacking, f"/proc/kallsyms: expected {', '.join(lacking)}, found none"
        nearest = min(abs(address - kernel[end]) for address in ours for end in ("_text", "_etext"))
        return nearest, max(abs(address - kernel["ftrace_caller"]) for address in ours)

    @property
    def loaded(self) -> bool:
        return self._guest.exists(f"/sys/module/{self.name}")

    def read(self, file: str, *, seconds: float = 5.0) -> str:
        """Trigger the action of `file`, and return what the module printed, without the last line end."""
        return self._guest.check(f"cat {self.files}/{file}", seconds=seconds).rstrip("\n")

    def try_read(self, file: str) -> str | None:
        """Like `read`; None when the module refuses."""
        done = self._guest.run(f"cat {self.files}/{file}")
        return done.output.rstrip("\n") if done.ok else None

    def write(self, file: str, line: str = "1") -> None:
        """Write `line` to the module's `file`; the test fails if the module refuses it."""
        self._guest.write(f"{self.files}/{file}", line)

    def prepare(self, file: str, line: str, *, what: str) -> None:
        """Do what `write` does, for something that the test needs and is not about: `what` it is, for the message. The
        test is skipped if this kernel lacks something for it, and else it is an InfraError."""
        if not self._guest.run(insmod.marked(self.name, self._written(file, line))).ok:
            insmod.not_prepared(self._guest, self.name, what)

    def refuses(self, file: str, line: str) -> bool:
        """Whether the module refuses `line` in `file`."""
        return not self._guest.run(self._written(file, line)).ok

    def _written(self, file: str, line: str) -> str:
        return f"echo {shlex.quote(line)} > {self.files}/{file}"

    def refusal(self, file: str, line: str) -> str:
        """Write `line` to the module's `file`, which must refuse it; returns the error message."""
        # not the shell's own echo: to dash every error is "I/O error"
        done = self._guest.run(f"env echo {shlex.quote(line)} > {self.files}/{file}")
        assert not done.ok, f"{self.name}: {file} took {line!r}"
        return done.output.strip().rpartition(": ")[2]

    def ask(self, file: str, line: str) -> str:
        """Write `line` to the module's `file`, and return the line that it then prints."""
        path = f"{self.files}/{file}"
        answer = 'read -r line && echo "$line"'
        return self._guest.check(f"echo {shlex.quote(line)} > {path} && {{ {answer}; }} < {path}").strip()


class Modules:
    """Test modules that `harness build` built from the C sources beside the tests."""

    def __init__(self, guest: Guest, build: Build) -> None:
        self._guest = guest
        self._build = build

    @property
    def version(self) -> tuple[int, ...]:
        """The kernel's version, such as (7, 3, 4)."""
        return version_of(self._build.release)

    @contextlib.contextmanager
    def load(self, name: str, **parameters: object) -> Iterator[Module]:
        """Load the module `name` for the duration of the ``with``; skips the test if this kernel can't have it."""
        self.require(name)
        module = Module(self._guest, name)
        module.insert(**parameters)
        try:
            yield module
        finally:
            self._guest.check(f"[ ! -e /sys/module/{name} ] || rmmod {name}")

    def refused(self, name: str, **parameters: object) -> str:
        """Load the module `name`, which the kernel must refuse; returns insmod's error message."""
        self.require(name)
        done = self._guest.run(_insmod(name, parameters))
        if done.ok:
            self._guest.run(f"rmmod {name}")
        assert not done.ok, f"the kernel took {name}"
        insmod.check_inserted(self._guest, name, done.output)
        return insmod.error_of(done.output)

    @contextlib.contextmanager
    def placed(self, name: str, place: str) -> Iterator[Module]:
        """Load the module `name` at the given `place`: ``near`` the kernel, ``far`` from it (beyond a direct branch's
        reach, but only just, if the kernel has room there), ``farthest`` (beyond, wherever the kernel puts it) or
        ``above`` (beyond, at a higher address than the kernel; skips the test if this kernel puts no module there).
        Raises InfraError if the module does not come to lie there: then there is nothing to test."""
        with contextlib.ExitStack() as stack:
            if place != "near":
                filler = stack.enter_context(self.load("near_filler"))
                filler.prepare("fill", _FILL[place], what=f"leave room for {name} {_ROOM[place]} only")
            module = stack.enter_context(self.load(name))
            nearest, call = module.distances()
            if place == "near" and call >= REACH_BYTES and self._build.config.get(_FULL_REGION) == "y":
                pytest.skip(f"this kernel has CONFIG_{_FULL_REGION}: its modules lie anywhere within 2 GB")
            right = call < REACH_BYTES if place == "near" else nearest >= REACH_BYTES
            found = f"{nearest >> 20} MB from the kernel, {call >> 20} MB from ftrace_caller"
            if not right:
                raise InfraError(f"expected {name} to be loaded {place}, found it {found}")
            yield module

    def available(self, name: str) -> bool:
        """Whether the module `name` could be built for this kernel; the test fails if its series is why not."""
        return ours.is_available(self._build, name)

    def require(self, name: str) -> None:
        """Skip the test if the module `name` could not be built for this kernel, with the reason; it fails if the
        kernel's series is that reason."""
        ours.require(self._build, name)


def _insmod(name: str, parameters: dict[str, object]) -> str:
    """The command that inserts the module `name`."""
    given = (shlex.quote(f"{key}={value}") for key, value in parameters.items())
    return insmod.marked(name, " ".join(["insmod", f"{DIRECTORY}/{name}.ko", *given]))
