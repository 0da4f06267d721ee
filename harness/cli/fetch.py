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
    """Download and verify a kernel source; print its version, checksum and path."""
    from harness.build import host
    from harness.build.source import parse_source_spec, resolve_source
    from harness.display import Display

    options = BuildOptions(**given)
    spec = parse_source_spec(options.kernel)
    with Display() as display:
        host.ensure_host(progress=display, needed_for={"fetch", "git"})
        source = resolve_source(spec, progress=display, refresh=True)
    tell(f"{source.version} {source.checksum}\n{source.path}")
