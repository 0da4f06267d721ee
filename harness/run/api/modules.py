"""The testcases' own kernel modules, unloaded at the end of every ``with``."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator

import pytest

from harness.model.kernel import Build

from .guest import Guest

DIRECTORY = "/payload/testcases"
_DEBUGFS = "/sys/kernel/debug"


class Module:
    """One of our modules. What it does on request is behind files of its own in debugfs (testcases/harness_test.h)."""

    def __init__(self, guest: Guest, name: str) -> None:
        self._guest = guest
        self.name = name
        self.files = f"{_DEBUGFS}/harness-{name}"

    def insert(self, **parameters: object) -> None:
        """insmod, with module parameters."""
        self._guest.check(_insmod(self.name, parameters))

    def remove(self) -> None:
        """rmmod."""
        self._guest.check(f"rmmod {self.name}")

    @property
    def loaded(self) -> bool:
        return self._guest.exists(f"/sys/module/{self.name}")

    def read(self, file: str, *, seconds: float = 5.0) -> str:
        """Have the module do what is behind `file`, and return what it printed, without the last line end."""
        return self._guest.check(f"cat {self.files}/{file}", seconds=seconds).rstrip("\n")

    def write(self, file: str, line: str = "1") -> None:
        """Hand `line` to the module's `file`; the test fails when the module refuses it."""
        self._guest.write(f"{self.files}/{file}", line)

    def refuses(self, file: str, line: str) -> bool:
        """Whether the module's `file` does not take `line`."""
        return not self._guest.run(f"echo {shlex.quote(line)} > {self.files}/{file}").ok

    def ask(self, file: str, line: str) -> str:
        """Hand `line` to the module's `file`, and return the line that it prints then."""
        path = f"{self.files}/{file}"
        answer = 'read -r line && echo "$line"'
        return self._guest.check(f"echo {shlex.quote(line)} > {path} && {{ {answer}; }} < {path}").strip()


class Modules:
    """Test modules that `harness build` made from the C sources beside the tests."""

    def __init__(self, guest: Guest, build: Build) -> None:
        self._guest = guest
        self._build = build

    @contextlib.contextmanager
    def load(self, name: str, **parameters: object) -> Iterator[Module]:
        """Load the module `name` for the length of the ``with``; skips the test where this kernel can't have it."""
        self.require(name)
        module = Module(self._guest, name)
        module.insert(**parameters)
        try:
            yield module
        finally:
            self._guest.check(f"[ ! -e /sys/module/{name} ] || rmmod {name}")

    def refused(self, name: str, **parameters: object) -> str:
        """Load the module `name`, which the kernel has to refuse; returns the error that insmod tells."""
        self.require(name)
        done = self._guest.run(_insmod(name, parameters))
        if done.ok:
            self._guest.run(f"rmmod {name}")
        assert not done.ok, f"the kernel took {name}"
        return done.output.strip().rpartition(": ")[2]

    def require(self, name: str) -> None:
        """Skip the test where the module `name` could not be built for this kernel, with the reason."""
        if name in self._build.left_out:
            pytest.skip(f"{name}: {self._build.left_out[name]}")


def _insmod(name: str, parameters: dict[str, object]) -> str:
    """The command that inserts the module `name`."""
    given = (shlex.quote(f"{key}={value}") for key, value in parameters.items())
    return " ".join(["insmod", f"{DIRECTORY}/{name}.ko", *given])
