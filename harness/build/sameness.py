"""Whether two builds are the same kernel: each says when it was made, and how often before it, so no two have the same
bytes after anything was linked."""

from __future__ import annotations

import hashlib
import re

from harness.build.seal import MANIFEST
from harness.errors import UserError
from harness.limits import BUILD_BYTES
from harness.model.kernel import Build

# ``#6 SMP PREEMPT Sat Nov 28 09:45:30 UTC 2026``, and the build id's note, which is a hash over that as well
_WHEN = re.compile(rb"#\d{1,9} [A-Z_ ]{0,40}[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d [A-Z]{1,5} \d{4}")
_BUILD_ID = re.compile(rb"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0.{20}", re.DOTALL)
_OTHERS = {"Image", "vmlinux", "System.map", ".config", "build.json", "build.log", "payload.ext4", MANIFEST}


def hash_of_binaries(build: Build) -> str:
    """Return a hash of what runs on the target: kernel, modules, device trees, selftests; equal for two builds that
    differ only in when they were made. Empty if the build does not say what it consists of. Raises UserError for an
    Image above the limit."""
    if not build.products:
        return ""
    digest = hashlib.sha256()
    try:
        image = BUILD_BYTES.read(build.image)
    except OSError as error:
        raise UserError(f"{build.image}: expected a kernel, can't read it: {error.strerror}") from None
    digest.update(_BUILD_ID.sub(b"", _WHEN.sub(b"", image)))
    for product in sorted(build.products, key=lambda each: each.path):
        name = str(product.path.relative_to(build.directory))
        if name.partition("/")[0] not in _OTHERS:
            digest.update(f"{name}\0{product.digest.sha256}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:24]
