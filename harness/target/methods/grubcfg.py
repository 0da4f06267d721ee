"""GRUB's configuration: the lines in custom.cfg, the configuration for one boot, and the environment block that arms
it.

GRUB disarms before it boots and verifies that on the disk; if it can't disarm, it does not boot the kernel. So whatever
happens to the kernel, the next boot is the usual one."""

from __future__ import annotations

import re
from collections.abc import Sequence

TAKEN = "taken"  # in place of the token: GRUB has disarmed
STARTING, NOT_STARTED, NOT_DISARMED = "starting", "not started", "not disarmed"  # what GRUB says behind the token
_VARIABLE = "harness_once"
_BLOCK = """\
# harness: begin. These lines do nothing but boot a kernel under test when they are told to, once; they may be removed.
set harness="${config_directory}/harness"
if [ -z "${config_directory}" ]; then set harness="${prefix}/harness"; fi
if [ -f "${harness}/grub.cfg" ]; then source "${harness}/grub.cfg"; fi
# harness: end
"""
_OURS = re.compile(r"^# harness: begin\b.*?^# harness: end\n?", re.DOTALL | re.MULTILINE)
# --unrestricted: a menu with a password must not ask for it. `reboot`: GRUB would wait at its menu for ever.
_CONFIG = """\
# Made anew for each boot; it does nothing unless `env` beside it has this token.
set {variable}=
load_env --file "${{harness}}/env" {variable}
if [ "${{{variable}}}" = "{token}" ]; then
  set {variable}={taken}
  save_env --file "${{harness}}/env" {variable}
  set {variable}=
  load_env --file "${{harness}}/env" {variable}
  if [ "${{{variable}}}" = "{taken}" ]; then
    menuentry 'a kernel under test, once' --id harness-once --unrestricted {{
      echo 'harness {token}: {starting}'
      {steps}
      echo 'harness {token}: {not_started}'
      reboot
    }}
    set default=harness-once
    set timeout=0
  else
    echo 'harness {token}: {not_disarmed}'
  fi
fi
"""
_ENVIRONMENT_BYTES = 1024
_ENVIRONMENT_HEAD = "# GRUB Environment Block\n"


def with_block(text: str) -> str:
    """Return custom.cfg with our lines at its end."""
    others = without_block(text)
    return others + ("" if not others or others.endswith("\n") else "\n") + _BLOCK


def without_block(text: str) -> str:
    """Return custom.cfg without our lines."""
    return _OURS.sub("", text)


def config(token: str, *, kernel: str, roots: Sequence[str], tree: str, arguments: str) -> str:
    """Return the configuration for one boot. `kernel`, `roots` (the initramfs in parts) and `tree` (or empty) are names
    of files beside it."""
    words = " ".join(map(_quoted, re.findall(r'(?:[^\s"]|"[^"]*"?)+', arguments)))
    commands = [f"linux {_beside(kernel)} {words}", f"initrd {' '.join(map(_beside, roots))}"]
    if tree:
        commands.append(f"devicetree {_beside(tree)}")
    return _CONFIG.format(
        variable=_VARIABLE,
        token=token,
        taken=TAKEN,
        starting=STARTING,
        not_started=NOT_STARTED,
        not_disarmed=NOT_DISARMED,
        steps=_steps(commands),
    )


def environment(value: str) -> bytes:
    """Return an environment block as grub-editenv writes it."""
    return f"{_ENVIRONMENT_HEAD}{_VARIABLE}={value}\n".encode().ljust(_ENVIRONMENT_BYTES, b"#")


def value_of(block: bytes) -> str:
    """Return the value in an environment block; empty if it has none."""
    found = re.search(rf"^{_VARIABLE}=(.*)$", block.decode(errors="replace"), re.MULTILINE)
    return found[1] if found else ""


def _steps(commands: Sequence[str]) -> str:
    """Return commands that boot if all of `commands` succeed."""
    return "".join(f"if {command}; then " for command in commands) + "boot" + "; fi" * len(commands)


def _beside(name: str) -> str:
    return f'"${{harness}}/{name}"'


def _quoted(word: str) -> str:
    """A word of a kernel command line. GRUB itself puts quotes around one with a space, and a backslash before any."""
    return "'" + word.replace('"', "").replace("'", r"'\''") + "'"
