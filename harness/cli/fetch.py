"""`harness fetch`."""

from __future__ import annotations

from typing import Any

import click

from harness.campaign.request import BuildOptions
from harness.cli.options import build_options
from harness.cli.output import tell


@click.command(epilog="Example: harness fetch --kernel debian:linux-source-6.1@bookworm-security")
@build_options
def fetch(**given: Any) -> None:
    """Download and verify a kernel source, or a kernel that is built; print its version, checksum and path."""
    from harness.build import host
    from harness.build.prebuilt.resolve import resolve_prebuilt
    from harness.build.prebuilt.spec import parse_prebuilt_spec
    from harness.build.source import parse_source_spec, resolve_source
    from harness.display import Display

    options = BuildOptions(**given)
    prebuilt = parse_prebuilt_spec(options.kernel)
    with Display() as display:
        if prebuilt:
            host.ensure_host(progress=display, needed_for={"fetch"})
            found = resolve_prebuilt(prebuilt, progress=display, refresh=True, verify=options.verify)
            paths = found.fetch(display, None)
            tell("\n".join([f"{found.version} {found.checksum}".strip(), *map(str, paths)]))
            return
        spec = parse_source_spec(options.kernel)
        host.ensure_host(progress=display, needed_for={"fetch", "git"})
        source = resolve_source(spec, progress=display, refresh=True, verify=options.verify)
    tell(f"{source.version} {source.checksum}\n{source.path}")
