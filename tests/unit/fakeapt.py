"""A scripted ``apt-get`` and ``apt-cache``: what they answer lies in files, what they were asked is recorded."""

from __future__ import annotations

import hashlib
from pathlib import Path

from toytree import write_script

SITE = "http://mirror.example/debian"
SECURITY_SITE = "http://mirror.example/debian-security"

APT_GET = """
echo "apt-get LC_ALL=$LC_ALL $*" >> "$FAKE_APT/calls"
for word; do
  case "$word" in
  --no-release-info) bare=1 ;;
  indextargets)
    if [ "$bare" ]; then cat "$FAKE_APT/targets-bare"; else cat "$FAKE_APT/targets"; fi; exit 0 ;;
  update|download|install)
    if [ -e "$FAKE_APT/$word-fails" ]; then cat "$FAKE_APT/$word-fails"; exit 100; fi
    if [ "$word" = download ]; then sleep "${FAKE_APT_SLOW:-0}"; cp "$FAKE_APT/package.deb" ./served_by_apt.deb; fi
    exit 0 ;;
  esac
done
"""
APT_CACHE = """
for word; do
  case "$word" in
  pkgnames) exec cat "$FAKE_APT/names" ;;
  show) exec cat "$FAKE_APT/show" ;;
  esac
done
"""


class FakeApt:
    """The directory that drives the scripts."""

    def __init__(self, directory: Path, bin_directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        write_script(bin_directory / "apt-get", APT_GET)
        write_script(bin_directory / "apt-cache", APT_CACHE)
        self.targets(
            "http://other.example/docker|bookworm|stable|Docker",
            f"{SECURITY_SITE}|bookworm-security|main|Debian",
            f"{SITE}|bookworm|main|Debian",
        )
        self.packages({})

    def targets(self, *lines: str) -> None:
        (self.directory / "targets").write_text("".join(f"{line}\n" for line in lines))
        (self.directory / "targets-bare").write_text("".join(f"{line.rpartition('|')[0]}|-\n" for line in lines))

    def forget_lists(self) -> None:
        """As on a machine whose package lists were removed: apt then knows no origins."""
        (self.directory / "targets").write_text("")

    def packages(self, versions: dict[str, str], *, deb: bytes = b"deb") -> None:
        """Make these packages known, all with the content `deb`."""
        (self.directory / "package.deb").write_bytes(deb)
        (self.directory / "names").write_text("".join(f"{name}\n" for name in versions))
        digest = hashlib.sha256(deb).hexdigest()
        (self.directory / "show").write_text(
            "\n".join(
                f"Package: {name}\nSource: linux\nVersion: {version}\nSize: {len(deb)}\nSHA256: {digest}\n"
                for name, version in versions.items()
            )
        )

    def fail(self, verb: str, said: str) -> None:
        (self.directory / f"{verb}-fails").write_text(said)

    def heal(self, verb: str) -> None:
        (self.directory / f"{verb}-fails").unlink()

    def calls(self, verb: str) -> list[str]:
        """What apt-get was called with, as far as it was for `verb`."""
        log = self.directory / "calls"
        return [line for line in log.read_text().splitlines() if verb in line.split()] if log.exists() else []
