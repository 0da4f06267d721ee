"""A CPU that is between the two instructions of a function while another one switches ftrace on."""

from __future__ import annotations

from pathlib import Path

from tests.seeds.two_nops import MOV_X9_X30, booted, entry_of, park_and_trace


def test_the_return_address_is_saved_before_ftrace_is_on(build: Path, tmp_path: Path) -> None:
    with booted(build, logs=tmp_path) as (target, vmlinux):
        seen = park_and_trace(target, entry_of(vmlinux))
    assert seen.first == MOV_X9_X30
    assert seen.has_return_address
    assert seen.output.startswith("Linux version")
    assert seen.faults == ()


def test_a_return_address_that_was_not_saved_is_noticed(build: Path, tmp_path: Path) -> None:
    """The same where the CPU has executed a NOP, as on kernels that patch both instructions at run time."""
    with booted(build, logs=tmp_path) as (target, vmlinux):
        seen = park_and_trace(target, entry_of(vmlinux), executed_nop=True)
    assert not seen.has_return_address
    assert not seen.is_safe
