"""Code that must not be instrumented: the tracer, what it calls, and what runs where the kernel is not mapped."""

import pytest

from harness.parse.instrumentation import EFI_STUB, NVHE, POSITION_INDEPENDENT, Function, Instrumentation, several
from harness.run.api.kernelfiles import KernelFiles
from harness.run.api.leftout import LEFT_OUT, REGIONS, Region

# Functions that say notrace in every kernel that has them, 5.10 to 7.3: what the tracer, its clock and the stack
# walk call, and what runs before a CPU is known to the kernel.
NOTRACE = (
    "jiffy_sched_clock_read suspended_sched_clock_read sched_clock_read_begin sched_clock_read_retry sched_clock "
    "arch_counter_get_cntpct arch_counter_get_cntvct __delay_cycles "
    "ktime_get_boot_fast_ns ktime_get_tai_fast_ns "
    "preempt_schedule preempt_schedule_notrace touch_softlockup_watchdog_sched wq_watchdog_touch stop_machine_yield "
    "arch_stack_walk arch_stack_walk_reliable in_lock_functions notify_die core_kernel_text rcu_is_watching "
    "rcu_momentary_eqs secondary_start_kernel klp_ftrace_handler bpf_prog_inc_misses_counter"
)
# This one does in 5.10, and did not in 5.0.
NOTRACE_FROM_5_10 = "jiffies_64_to_clock_t"
# These say so in 6.1, and did not in 5.10.
NOTRACE_FROM_6_1 = "ktime_get_mono_fast_ns ktime_get_raw_fast_ns"
# What the macros behind every trace event make (include/trace/*.h).
EVENT_CODE = ("trace_event_raw_event_", "perf_trace_", "trace_raw_output_", "__bpf_trace_")


def assert_left_out(functions: list[Function]) -> None:
    """Assert that none of `functions` is instrumented; skip if the list is empty, because this kernel has none of
    them."""
    if not functions:
        pytest.skip("this kernel has none of these functions")
    found = [function for function in functions if function.instrumented]
    assert not found, f"{len(found)} of {len(functions)} are instrumented: {several(found)}"


@pytest.mark.parametrize("group", LEFT_OUT)
def test_files(kernel_files: KernelFiles, group: str) -> None:
    """Every file whose Makefile takes CC_FLAGS_FTRACE away is free of NOPs and entries. The mail's patch does that
    for ftrace.o, insn.o and return_address.o ("CFLAGS_REMOVE_ftrace.o = -pg $(CC_FLAGS_FTRACE)"); the rest of the
    list, and why, is in harness/run/api/leftout.py."""
    assert_left_out(kernel_files.left_out(group))


@pytest.mark.parametrize("prefix", [EFI_STUB, NVHE, POSITION_INDEPENDENT])
def test_code_that_runs_outside_the_kernels_mapping(vmlinux: Instrumentation, prefix: str) -> None:
    """The EFI stub ("$(filter-out -pg $(CC_FLAGS_FTRACE),$(KBUILD_CFLAGS))" in the mail's patch), the nVHE hypervisor
    (arch/arm64/kvm/hyp/nvhe/Makefile) and what runs before relocation (arch/arm64/kernel/pi): a patched branch there
    would lead nowhere. Their tables may be lost in the link, so the NOPs count too."""
    assert_left_out([function for function in vmlinux.functions if function.all_named(prefix)])


def test_vdso(kernel_files: KernelFiles) -> None:
    """The vDSO runs in user space (arch/arm64/kernel/vdso/Makefile removes CC_FLAGS_FTRACE)."""
    vdso = kernel_files.vdso()
    assert_left_out(list(vdso.functions))
    assert not vdso.elf.named("__patchable_function_entries")


@pytest.mark.parametrize("region", REGIONS, ids=lambda region: region.name)
def test_sections(kernel_files: KernelFiles, vmlinux: Instrumentation, region: Region) -> None:
    """Nothing between the linker script's marks of text that must not be traced is: entry code before the kernel's
    state is set up (noinstr, Documentation/core-api/entry.rst), code in the identity map, at EL2, in exit sections."""
    place = vmlinux.region(region.begin, region.end)
    if not place:
        pytest.skip(f"this kernel has no {region.name} text")
    if kernel_files.version < region.since:
        pytest.skip(f"{region.name} text is traced before {'.'.join(map(str, region.since))}")
    found = [function for function in vmlinux.functions if function.address in place and function.instrumented]
    assert not found, f"{region.name} text is instrumented: {several(found)}"
    entries = [f"{entry:#x}" for entry in vmlinux.entries if entry in place]
    assert not entries, f"the table points into {region.name} text: {several(entries)}"


def test_notrace_functions(vmlinux: Instrumentation, kernel_files: KernelFiles) -> None:
    """notrace keeps a function out: "#define notrace __attribute__((patchable_function_entry(0)))" in the mail's
    patch, and Mark Rutland's answer to it."""
    since = {(0,): NOTRACE, (5, 10): NOTRACE_FROM_5_10, (6, 1): NOTRACE_FROM_6_1}
    names = {name for version, names in since.items() if kernel_files.version >= version for name in names.split()}
    assert_left_out([function for function in vmlinux.functions if names & set(function.names)])


def test_code_of_trace_events(vmlinux: Instrumentation) -> None:
    """What the event macros make is notrace: it runs while an event is recorded (include/trace/trace_events.h,
    perf.h, bpf_probe.h: "static notrace")."""
    first = EVENT_CODE[0]
    events = {function.name.removeprefix(first) for function in vmlinux.functions if function.name.startswith(first)}
    code = {prefix + event for prefix in EVENT_CODE for event in events}
    assert_left_out([function for function in vmlinux.functions if function.name in code])
