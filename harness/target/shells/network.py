"""The network of a booted board: brought up through the serial shell, which reports the address and the host key, so
that the SSH connection reaches this very kernel. harness/build/overlay/board-network is the far end."""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
import re
import shlex

from harness.errors import InfraError
from harness.model.board import Login, Ssh
from harness.target.base import CommandTimeout, TargetLost
from harness.target.shells.serial import Shell
from harness.target.shells.ssh import Identity, SshHost

_LIMIT_S = 60.0
_MOST_REASON = 2000  # characters


class NoNetwork(InfraError):
    """The booted kernel can't be reached over the network; only its serial line is available."""


def reach(spec: Ssh, shell: Shell, *, place: str) -> SshHost:
    """Bring up the network of the kernel behind `shell`, and log in. Raises NoNetwork with the reason if that fails."""
    identity = Identity()
    words = ["/harness/board-network", spec.address, spec.gateway, identity.public_line]
    try:
        done = shell.run(shlex.join(words), timeout=_LIMIT_S)
    except (CommandTimeout, TargetLost) as error:
        raise NoNetwork(f"{place}: no network: {error.message}") from None
    told = dict(re.findall(r"^(address|hostkey) (\S+(?: \S+)?)$", done.output, re.MULTILINE))
    if not done.ok or told.keys() != {"address", "hostkey"}:
        reason = done.output.strip()[-_MOST_REASON:] or f"exit code {done.returncode}"
        raise NoNetwork(f"{place}: no network: {reason}")
    if not _is_address(told["address"]):
        found = repr(told["address"][:80])
        raise NoNetwork(f"{place}: no network: expected the address that the kernel has now, found {found}")
    ours = dataclasses.replace(spec, login=Login(user="root", host_key=told["hostkey"]))
    at = [dataclasses.replace(ours, host=spec.host or told["address"])]
    if spec.of_place and spec.host != told["address"]:  # DHCP may have given another one than the own system has
        at.append(dataclasses.replace(ours, host=told["address"], port=Ssh.port))
    troubles = []
    for each in at:
        host = SshHost(each, place=place, identity=identity)
        try:
            host.connect()
        except InfraError as error:
            host.close()
            troubles.append(error.message)
        else:
            return host
    raise NoNetwork(f"{'; '.join(troubles)} (its own address is {told['address']})")


def _is_address(text: str) -> bool:
    with contextlib.suppress(ValueError):
        return bool(ipaddress.ip_address(text))
    return False
