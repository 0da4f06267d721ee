"""BPF programs at functions of the kernel: fentry and fexit by BPF's trampolines, kprobe.multi by fprobes.

bpfattach (harness/build/overlay/bpfattach.c) runs on the guest as long as they are attached."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest

from harness.errors import InfraError
from harness.model.kernel import Build
from harness.run.api.guest import Guest, number
from harness.run.api.process import Process, background
from harness.run.stopped import Refused

_PROGRAM = "/payload/bin/bpfattach"
_REFUSED = ": the kernel refuses to "  # how bpfattach words the kernel's answer, and nothing else
_REPORT = re.compile(
    r"(?P<kind>\w+) (?P<function>\S+) calls (?P<calls>\d+) argument (?P<argument>[0-9a-f]+)"
    r" result (?P<result>[0-9a-f]+) stack(?P<stack>[0-9a-f ]*)"
)


@dataclass(frozen=True)
class BpfSeen:
    """What a program has seen: how many calls, and of the last one the first argument, the result (at a return) and
    the stack's addresses, innermost first."""

    kind: str
    function: str
    calls: int
    argument: int
    result: int
    stack: tuple[int, ...]


class BpfPrograms:
    """Attached programs."""

    def __init__(self, guest: Guest, process: Process) -> None:
        self._guest = guest
        self._process = process
        self._asked = 0

    def seen(self) -> list[BpfSeen]:
        """What the programs have seen so far, in the order in which they were attached."""
        self._asked += 1
        self._guest.check(f"kill -USR1 {self._process.pid}")
        reports: list[str] = []

        def told() -> bool:
            reports[:] = f"{self._process.output}\n".split("\nend\n")[:-1]
            return len(reports) >= self._asked

        self._guest.wait_until(told, "a report of bpfattach")
        found = [match for match in map(_REPORT.fullmatch, reports[-1].splitlines()) if match]
        return [
            BpfSeen(
                kind=each["kind"],
                function=each["function"],
                calls=number(each["calls"], "bpfattach: calls"),
                argument=number(each["argument"], "bpfattach: argument", base=16),
                result=number(each["result"], "bpfattach: result", base=16),
                stack=tuple(number(word, "bpfattach: stack", base=16) for word in each["stack"].split()),
            )
            for each in found
        ]


class Bpf:
    """Attaches programs."""

    def __init__(self, guest: Guest, build: Build) -> None:
        self._guest = guest
        self._build = build

    @contextlib.contextmanager
    def attach(self, *programs: tuple[str, str]) -> Iterator[BpfPrograms]:
        """Attach programs for the duration of the ``with``, each a pair of a kind and a function: ``fentry`` and
        ``fexit`` with ``function`` or ``module:function``, ``multi`` and ``multiret`` with
        ``function,function,...``. Skips the test if there was nothing to make a module's BTF from."""
        self._require_types([target for _, target in programs])
        words = " ".join(word for program in programs for word in program)
        with background(self._guest, f"{_PROGRAM} {words}") as process:
            self._guest.wait_until(lambda: process.output.endswith("attached") or not process.running, "BPF programs")
            if not process.output.endswith("attached"):
                raise _not_attached(words, process.output)
            yield BpfPrograms(self._guest, process)
        self._wait_gone([target for _, target in programs])

    def _require_types(self, targets: Sequence[str]) -> None:
        """The BTF of a module is made from that of vmlinux, which a kernel that was built elsewhere may lack."""
        if (self._build.directory / "vmlinux").exists():
            return
        for module in _modules_of(targets):
            if not self._guest.exists(f"/sys/kernel/btf/{module}"):
                pytest.skip(f"{module} has no BTF: there is no vmlinux of this kernel to make it from")

    def _wait_gone(self, targets: Sequence[str]) -> None:
        """Wait until the kernel has let go of the functions' modules, which it does after a grace period."""
        for module in _modules_of(targets):
            self._guest.wait_until(functools.partial(self._is_unused, module), f"{module} is not used by BPF any more")

    def _is_unused(self, module: str) -> bool:
        refcnt = f"/sys/module/{module}/refcnt"
        return self._guest.run(f"! {{ read -r users < {refcnt}; }} 2>/dev/null || [ $users = 0 ]").ok


def _modules_of(targets: Sequence[str]) -> list[str]:
    return sorted({target.partition(":")[0] for target in targets if ":" in target})


def _not_attached(words: str, output: str) -> InfraError | Refused:
    """Why the programs `words` are not attached: the kernel refuses them, or it was not even asked, as where there is
    no BTF of the function, which is made when the kernel and its modules are built."""
    if _REFUSED in output:
        return Refused(f"expected the kernel to take {words}: {output}")
    return InfraError(f"{_PROGRAM} {words}: could not ask the kernel: {output or 'it ended without a word'}")
