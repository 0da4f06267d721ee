"""Every exception that the harness raises on purpose, and its exit code.

::

    HarnessError
    ├── UserError        exit 2   wrong input: a file, an option, a patch that does not apply
    │   └── Unavailable           right as such, but this kernel or this compiler can't have it
    ├── InfraError       exit 3   the host, the network, the lab: never booked on the kernel
    └── KernelError      exit 1   the kernel under test is at fault
        ├── BuildError            it does not compile or link
        ├── BootError             it panicked, hung or never answered while booting
        └── CrashError            it crashed, hung or reported a fault while a test ran

A door (the one module that imports a foreign library) turns that library's exceptions into these.
Messages say place, expectation, finding and what to do; `details` contains further lines (a compiler's message, the
last console lines) that the command line prints below the message.
"""

from __future__ import annotations

from collections.abc import Sequence

EXIT_OK = 0
EXIT_KERNEL = 1
EXIT_USER = 2
EXIT_INFRA = 3


class HarnessError(Exception):
    """Base of all expected failures. `exit_code` is the exit code of the command."""

    exit_code = EXIT_INFRA

    def __init__(self, message: str, *, details: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.details = tuple(details)


class UserError(HarnessError):
    """Wrong input; nothing was changed."""

    exit_code = EXIT_USER


class Unavailable(UserError):
    """What was asked for is right as such, but this kernel or this compiler can't have it: of many combinations, as a
    night has them, this one is none."""


class InfraError(HarnessError):
    """The host, the network or the lab failed; says nothing about the kernel."""

    exit_code = EXIT_INFRA


class KernelError(HarnessError):
    """The kernel under test is at fault."""

    exit_code = EXIT_KERNEL


class BuildError(KernelError):
    """The kernel does not build; `details` are the compiler's messages."""


class BootError(KernelError):
    """The kernel did not come up; `details` are the last console lines."""


class CrashError(KernelError):
    """The kernel crashed, hung or reported a fault; `details` are the console lines of the report."""
