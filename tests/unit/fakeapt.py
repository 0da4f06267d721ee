"""A scripted ``apt-get`` and ``apt-cache``: what they answer lies in files, what they were asked is recorded."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from harness.build import apt
from tests.unit.toytree import write_script

SITE = "http://mirror.example/debian"
SECURITY_SITE = "http://mirror.example/debian-security"

APT_GET = """
echo "apt-get LC_ALL=$LC_ALL $*" >> "$FAKE_APT/calls"
for word; do
  case "$word" in
  --print-uris) cat "$FAKE_APT/uris"; exit 0 ;;
  --no-release-info) bare=1 ;;
  indextargets)
    if [ "$bare" ]; then cat "$FAKE_APT/targets-bare"; else cat "$FAKE_APT/targets"; fi; exit 0 ;;
  download) case "$*" in *--print-uris*) continue ;; esac ;;
  esac
  case "$word" in
  update|download|install)
    if [ -e "$FAKE_APT/$word-fails" ]; then cat "$FAKE_APT/$word-fails"; exit 100; fi
    if [ "$word" = download ]; then
      ls >> "$FAKE_APT/found"
      head -c 10 "$FAKE_APT/package.deb" > ./served_by_apt.deb
      if [ -e "$FAKE_APT/download-breaks" ]; then cat "$FAKE_APT/download-breaks" >&2; exit 100; fi
      sleep "${FAKE_APT_SLOW:-0}"
      cp "$FAKE_APT/package.deb" ./served_by_apt.deb
    fi
    exit 0 ;;
  esac
done
"""
APT_CACHE = """
for word; do
  if [ "$showing" ]; then cat "$FAKE_APT/shown/$word" || exit 100; fi
  case "$word" in
  pkgnames) exec cat "$FAKE_APT/names" ;;
  show) showing=1 ;;
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
        write_script(bin_directory / "apt-config", 'cat "$FAKE_APT/settings"')
        (directory / "uris").touch()
        (directory / "settings").touch()
        self.packages({})

    def targets(self, *lines: str) -> None:
        (self.directory / "targets").write_text("".join(f"{line}\n" for line in lines))
        (self.directory / "targets-bare").write_text("".join(f"{line.rpartition('|')[0]}|-\n" for line in lines))

    @staticmethod
    def in_place(directory: Path, monkeypatch: pytest.MonkeyPatch) -> FakeApt:
        """One in place of the host's, with a cache and a keyring of its own."""
        monkeypatch.setenv("XDG_CACHE_HOME", str(directory / "cache"))
        monkeypatch.setenv("PATH", f"{directory / 'bin'}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.setenv("FAKE_APT", str(directory / "apt"))
        (directory / "keyring.gpg").touch()
        monkeypatch.setattr(apt, "KEYRING", directory / "keyring.gpg")
        return FakeApt(directory / "apt", directory / "bin")

    def forget_lists(self) -> None:
        """As on a machine whose package lists were removed: apt then knows no origins."""
        (self.directory / "targets").write_text("")

    def packages(self, versions: dict[str, str], *, deb: bytes = b"deb", depends: dict[str, str] | None = None) -> None:
        """Make these packages known, all with the content `deb`. `depends`: the Depends fields of some."""
        (self.directory / "package.deb").write_bytes(deb)
        (self.directory / "names").write_text("".join(f"{name}\n" for name in versions))
        digest = hashlib.sha256(deb).hexdigest()
        (self.directory / "shown").mkdir(exist_ok=True)
        for name, version in versions.items():
            (self.directory / "shown" / name).write_text(
                f"Package: {name}\nSource: linux\nVersion: {version}\nSize: {len(deb)}\nSHA256: {digest}\n"
                f"Depends: {(depends or {}).get(name, 'kmod')}\n\n"
            )

    def fail(self, verb: str, said: str) -> None:
        """Let `verb` fail at once; ``download-breaks`` lets a download fail half-way."""
        (self.directory / (verb if verb.endswith("-breaks") else f"{verb}-fails")).write_text(said)

    def heal(self, verb: str) -> None:
        (self.directory / (verb if verb.endswith("-breaks") else f"{verb}-fails")).unlink()

    def calls(self, verb: str) -> list[str]:
        """What apt-get was called with, as far as it was for `verb`."""
        log = self.directory / "calls"
        return [line for line in log.read_text().splitlines() if verb in line.split()] if log.exists() else []
