"""The program that attaches BPF programs on the target, compiled for this host over a kernel that tells what it is
asked."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from harness.build import guesttools

_SYSTEM_CALLS = """
long write(int, const void *, unsigned long);
void _exit(int);
static long call6(long number, long a, long b, long c, long d, long e, long f);
"""

# Every call for the kernel succeeds; LINK_CREATE prints the names of the functions.
_KERNEL = """
static long call6(long number, long a, long b, long c, long d, long e, long f)
{
	struct { u32 prog, target, type, flags, multi_flags, count; u64 names; } *link = (void *)b;

	if (number == SYS_write)
		return write(a, (void *)b, c);
	if (number == SYS_exit)
		_exit(a);
	for (u32 i = 0; number == SYS_bpf && a == LINK_CREATE && i < link->count; i++) {
		print(((char **)link->names)[i]);
		print("\\n");
	}
	return 3;
}

int main(int count, char **words)
{
	attach(words[1], words[2]);
	return 0;
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """bpfattach, which attaches one program and ends."""
    if shutil.which("gcc") is None:
        pytest.skip("not installed: gcc (Debian: gcc)")
    source = guesttools._source("bpfattach").read_text()
    source, calls = re.subn(r"^static long call6\(.*?^}\n", "", source, flags=re.MULTILINE | re.DOTALL)
    source, starts = re.subn(r"^__asm__.*\n", "", source, flags=re.MULTILINE)
    assert (calls, starts) == (1, 1)
    directory = tmp_path_factory.mktemp("bpfattach")
    (directory / "bpfattach.c").write_text(f"{_SYSTEM_CALLS}{source}{_KERNEL}")
    subprocess.run(["gcc", "-w", "-fno-builtin", "-o", "bpfattach", "bpfattach.c"], cwd=directory, check=True)
    return directory / "bpfattach"


def _attach(program: Path, names: list[str]) -> subprocess.CompletedProcess[str]:
    words = [str(program), "multi", ",".join(names)]
    return subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize("count", [1, 16, 17, 400])
def test_every_function_of_a_kprobe_multi_is_given_to_the_kernel(program: Path, count: int) -> None:
    names = [f"f{number}" for number in range(count)]
    done = _attach(program, names)
    assert (done.returncode, done.stdout.split()) == (0, names)


def test_names_that_are_too_long_together_are_refused(program: Path) -> None:
    done = _attach(program, ["x" * 127] * 17)
    assert done.returncode == 1
    assert done.stdout == "bpfattach: multi: the names of its functions are too long together: error 7\n"
