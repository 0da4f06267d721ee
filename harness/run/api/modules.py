"""The testcases' own kernel modules and livepatches, unloaded at the end of every ``with``."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator

import pytest

from harness.model.kernel import Build

from .guest import Guest

_DIRECTORY = "/payload/testcases"
_DEBUGFS = "/sys/kernel/debug"
_FULL_REGION = "RANDOMIZE_MODULE_REGION_FULL"
REACH = 128 << 20  # bytes that a direct branch reaches, either way
_LIVEPATCH = "/sys/kernel/livepatch"


class Module:
    """One of our modules. What it does on request is behind files of its own in debugfs (testcases/harness_test.h)."""

    def __init__(self, guest: Guest, name: str) -> None:
        self._guest = guest
        self.name = name
        self.files = f"{_DEBUGFS}/harness-{name}"

    def insert(self, **parameters: object) -> None:
        """insmod, with module parameters."""
        given = " ".join(f"{key}={value}" for key, value in parameters.items())
        self._guest.check(f"insmod {_DIRECTORY}/{self.name}.ko {given}")

    def remove(self) -> None:
        """rmmod."""
        self._guest.check(f"rmmod {self.name}")

    def distances(self) -> tuple[int, int]:
        """Bytes between the module's text and the kernel's, by /proc/kallsyms: the nearest ends, the farthest."""
        kernel = self._guest.check("grep -E ' (_text|_etext)$' /proc/kallsyms").split()
        ours = self._guest.check(f"grep -E ' [tT] .*\\[{self.name}\\]$' /proc/kallsyms").splitlines()
        ends = [int(word, 16) for word in kernel[::3]]
        gaps = [abs(int(line.split()[0], 16) - end) for line in ours for end in ends]
        return min(gaps), max(gaps)

    @property
    def loaded(self) -> bool:
        return self._guest.exists(f"/sys/module/{self.name}")

    def read(self, file: str, *, seconds: float = 5.0) -> str:
        """Have the module do what is behind `file`, and return what it printed, without the last line end."""
        return self._guest.check(f"cat {self.files}/{file}", seconds=seconds).rstrip("\n")

    def write(self, file: str, line: str = "1") -> None:
        """Hand `line` to the module's `file`; the test fails when the module refuses it."""
        self._guest.write(f"{self.files}/{file}", line)

    def try_write(self, file: str, line: str) -> bool:
        """Like `write`, and tell whether the module took it."""
        return self._guest.run(f"echo {shlex.quote(line)} > {self.files}/{file}").ok


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
            if module.loaded:
                module.remove()

    @contextlib.contextmanager
    def placed(self, name: str, place: str) -> Iterator[Module]:
        """Load the module `name` where it is wanted: ``near`` the kernel, ``far`` (just beyond a direct branch's reach)
        or ``farthest`` from it (as far as the kernel puts modules). The test fails when it does not lie there."""
        with contextlib.ExitStack() as stack:
            if place != "near":
                filler = stack.enter_context(self.load("near_filler"))
                filler.write("fill", "and far away" if place == "far" else "near")
            module = stack.enter_context(self.load(name))
            nearest, farthest = module.distances()
            if place == "near" and farthest >= REACH and self._build.config.get(_FULL_REGION) == "y":
                pytest.skip(f"this kernel has CONFIG_{_FULL_REGION}: its modules lie anywhere within 2 GB")
            right = {
                "near": farthest < REACH,
                "far": nearest >= REACH and farthest < 2 * REACH,
                "farthest": nearest >= REACH,
            }[place]
            assert right, f"{name} was to lie {place}, but lies {nearest >> 20} to {farthest >> 20} MB from the kernel"
            yield module

    @property
    def left_out(self) -> dict[str, str]:
        """The modules that this kernel can't have, each with the reason."""
        return self._build.left_out

    def livepatch_toggled(self, name: str) -> str:
        """Shell commands that load a livepatch, disable it when its transition is over, and unload it."""
        sys = f"{_LIVEPATCH}/{name}"
        return (
            f"insmod {_DIRECTORY}/{name}.ko; while grep -qs 1 {sys}/transition; do :; done; "
            f"echo 0 > {sys}/enabled; while [ -e {sys} ]; do :; done; while ! rmmod {name}; do :; done 2> /dev/null"
        )

    def require(self, name: str) -> None:
        """Skip the test where the module `name` could not be built for this kernel, with the reason."""
        if name in self._build.left_out:
            pytest.skip(f"{name}: {self._build.left_out[name]}")


class Livepatch:
    """One loaded livepatch."""

    def __init__(self, guest: Guest, name: str) -> None:
        self._guest = guest
        self.name = name

    @property
    def in_transition(self) -> bool:
        return self._guest.read(f"{_LIVEPATCH}/{self.name}/transition").strip() == "1"

    def wait(self) -> None:
        """Until every task has been switched."""
        self._guest.wait_until(lambda: not self.in_transition, f"{self.name}: transition finished", seconds=10.0)

    def disable(self) -> None:
        """Take the patch back, and wait until it is gone."""
        self._guest.write(f"{_LIVEPATCH}/{self.name}/enabled", "0")
        self.wait_gone()

    def wait_gone(self) -> None:
        """Until the kernel has dropped the patch."""
        gone = f"{_LIVEPATCH}/{self.name}"
        self._guest.wait_until(lambda: not self._guest.exists(gone), f"{self.name}: taken back", seconds=10.0)


class Livepatches:
    """Loads livepatch modules."""

    def __init__(self, guest: Guest, modules: Modules) -> None:
        self._guest = guest
        self._modules = modules

    @contextlib.contextmanager
    def load(self, name: str) -> Iterator[Livepatch]:
        """Load the livepatch module `name`; the end of the ``with`` disables it if need be, and unloads it."""
        self._modules.require(name)
        with self._modules.load(name):
            patch = Livepatch(self._guest, name)
            try:
                yield patch
            finally:
                if self._guest.exists(f"{_LIVEPATCH}/{name}"):
                    patch.disable()
                released = f"[ $(cat /sys/module/{name}/refcnt) = 0 ]"
                self._guest.wait_until(lambda: self._guest.run(released).ok, f"{name}: no longer in use")
