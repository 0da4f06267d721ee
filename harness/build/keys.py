"""What names a kernel, a build and a configuration: hashes of everything that goes into them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from harness.build import era, guesttools, testmodules
from harness.errors import UserError
from harness.limits import SOURCE_BYTES
from harness.model.kernel import KernelSpec, Toolchain
from harness.model.suite import UPSTREAM
from harness.parse.fields import filled

RECIPE = 5  # incremented with each change of what a build directory contains


def build_key(spec: KernelSpec, *, testcases: Path) -> str:
    """Return the hash that names a build: of the kernel, the test modules, and the recipe for a build directory."""
    return digest(
        {
            "recipe": RECIPE,
            "kernel": kernel_key(spec),
            "suites": [suite.directory for suite in UPSTREAM],
            "modules": testmodules.fingerprint(testcases),
            "tools": guesttools.fingerprint(),
        }
    )


def kernel_key(spec: KernelSpec) -> str:
    """Return the hash that names a kernel, independent of its tests: of source, patches, fragments and toolchain."""
    return digest(
        {
            "source": spec.source.identity,
            "patches": [patch.sha256 for patch in spec.patches],
            "fragments": contents_of_fragments(spec),
            "toolchain": identity_of(spec.toolchain),
            "plain": spec.allow_plain_ftrace,
            **filled(era=era.fingerprint(era.fixes_for(spec))),
        }
    )


def contents_of_fragments(spec: KernelSpec) -> list[str]:
    """Raises UserError for one that can't be read."""
    return [_content(path).hex() for path in (*spec.fragments, *spec.user_fragments)]


def _content(path: Path) -> bytes:
    try:
        return SOURCE_BYTES.read(path)
    except OSError as error:
        raise UserError(f"{path}: expected a kconfig fragment, can't read it: {error.strerror}") from None


def identity_of(toolchain: Toolchain) -> list[str]:
    return [toolchain.command, toolchain.version, *toolchain.make_args]


def digest(inputs: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:16]


def configuration_name(spec: KernelSpec) -> str:
    """Return the name of the object tree to build in, from the compiler and the names of the fragments. After an edit a
    fragment keeps its tree, where kbuild compiles only what uses a changed symbol."""
    fragments = [path.name for path in (*spec.fragments, *spec.user_fragments)]
    told = [spec.toolchain.command, spec.toolchain.version, spec.allow_plain_ftrace, *fragments]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:8]
