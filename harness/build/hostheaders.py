"""Headers of this host that an upstream suite needs. What fails for want of one is tried again once it is there."""

from __future__ import annotations

import platform
import re
import tempfile
from collections.abc import Mapping, Sequence

from harness.build.command import run
from harness.build.host import host_tools
from harness.build.toolchain import TIMEOUT_S
from harness.model.kernel import Toolchain
from harness.parse import make_log

_LACKS = re.compile(r"; this host has no <(?P<header>[\w./+-]+)>")
# What kernels' selftests include besides the C library's.
_PACKAGES = {
    "alsa/asoundlib.h": "libasound2-dev",
    "cap-ng.h": "libcap-ng-dev",
    "fuse.h": "libfuse-dev",
    "gelf.h": "libelf-dev",
    "keyutils.h": "libkeyutils-dev",
    "libelf.h": "libelf-dev",
    "libmnl/libmnl.h": "libmnl-dev",
    "mnl.h": "libmnl-dev",
    "numa.h": "libnuma-dev",
    "numaif.h": "libnuma-dev",
    "popt.h": "libpopt-dev",
    "sys/capability.h": "libcap-dev",
    "zlib.h": "zlib1g-dev",
}


def explained(errors: Sequence[str], toolchain: Toolchain) -> str:
    """Return the first of the `errors` of a suite that does not build. If it is that a header is missing, and the
    compiler does not find that at all, say which one this host lacks, and the package that has it."""
    why = errors[0]
    header = make_log.missing_header(errors)
    if not header or has(toolchain, header):  # in the latter case, the suite looks for it elsewhere
        return why
    return f"{why}; this host has no <{header}>: {_advice(header)}, and repeat the command"


def is_why(why: str) -> bool:
    """Return whether something was not built for want of a header of this host's."""
    return bool(_LACKS.search(why))


def came(unbuilt: Mapping[str, str], toolchain: Toolchain) -> list[str]:
    """Return the headers that this host lacked when something was `unbuilt`, and has now."""
    lacked = {match["header"] for why in unbuilt.values() if (match := _LACKS.search(why))}
    return sorted(header for header in lacked if has(toolchain, header))


def has(toolchain: Toolchain, header: str) -> bool:
    """Return whether the compiler finds the header by itself."""
    clang = ("--target=aarch64-linux-gnu",) if toolchain.name.startswith("clang") else ()
    with tempfile.TemporaryFile() as source:
        source.write(f"#if !__has_include(<{header}>)\n#error\n#endif\n".encode())
        source.seek(0)
        words = [toolchain.command, *clang, "-fsyntax-only", "-x", "c", "-"]
        return run(words, timeout=TIMEOUT_S, stdin=source).status == 0


def _advice(header: str) -> str:
    tools = [tool for tool in host_tools() if tool.probe.endswith("/include/stdio.h")]
    if package := _PACKAGES.get(header):
        foreign = "" if platform.machine() in ("aarch64", "arm64") else ":arm64"
        return f"install Debian's {package}{foreign}"
    packages = " or ".join(tool.package for tool in tools if "selftests" in tool.needed_for or len(tools) == 1)
    return f"install Debian's {packages}, or the package that `apt-file search include/{header}` names"
