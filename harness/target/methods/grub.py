"""Boot method grub: the board's own system stores kernel and initramfs beside GRUB's configuration, configures GRUB to
boot them once, and reboots."""

from __future__ import annotations

import posixpath
import re
import secrets
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass

from harness.errors import HarnessError, InfraError
from harness.model.board import Access, BoardSpec
from harness.model.boot import GrubBoot
from harness.target.base import Media
from harness.target.line.console import Console
from harness.target.methods import grubcfg
from harness.target.methods.autoboot import LOGIN
from harness.target.methods.ownsystem import RETURNS, Files, name_of, own_system, reach, run
from harness.target.methods.start import Start
from harness.target.shells.ssh import SshHost

_USUAL = ("/boot/grub", "/boot/grub2")
_MODE = re.compile(r"[0-7]{1,4}")
_LOOK_AGAIN_S = 20.0  # between two checks whether the board's own system is back
# where save_env fails, as the 00_header of Debian and Ubuntu has it
_NOT_WRITTEN = {"btrfs", "cpiofs", "newc", "odc", "romfs", "squash4", "tarfs", "zfs", "diskfilter", "lvm"}
_HAVE_ANOTHER = "have a /boot on plain ext4 or FAT, or use boot.method: kexec"
_SECURE_BOOT = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
_BOOT_ID = "cat /proc/sys/kernel/random/boot_id"


def look(board: BoardSpec, access: Access) -> str:
    """Describe the board's own system without changing anything. Raises InfraError if it does not answer, or if its
    GRUB can't boot a kernel of ours once."""
    system = own_system(board, access)
    try:
        system.connect()
        grub = Grub.found(board, system)
        return f"answers as {name_of(system)}; GRUB reads {grub.custom}, and can write beside it"
    finally:
        system.close()


def start(job: Start) -> float:
    """Start the kernel, wait until it appears on the console, and return when the start began (monotonic).

    Raises InfraError if the own system can't be reached, or if GRUB can't or does not start the kernel."""
    started = time.monotonic()
    system = own_system(job.board.spec, job.board.access)
    try:
        reach(job.board, system, job.line, job.switch, job.say)
        grub = Grub.found(job.board.spec, system)
        token = secrets.token_hex(4)
        try:
            grub.prepare(job.media, token, f"{RETURNS} {job.arguments}")
            boot_id = grub.leave(token)
        except HarnessError:
            grub.put_back()
            raise
        _await_kernel(job, grub, token, boot_id)
    finally:
        system.close()
    return started


@dataclass(frozen=True, kw_only=True)
class Grub:
    """GRUB on a board. `directory`: where its grub.cfg is."""

    board: BoardSpec
    system: SshHost
    directory: str

    @classmethod
    def found(cls, board: BoardSpec, system: SshHost) -> Grub:
        """Find the GRUB of the own system. Raises InfraError if it can't boot a kernel of ours once."""
        spec = board.boot
        assert isinstance(spec, GrubBoot)
        places = [spec.directory] if spec.directory else _USUAL
        for place in places:
            if system.run(f"[ -f {shlex.quote(place)}/grub.cfg ]").ok:
                grub = cls(board=board, system=system, directory=place)
                grub._check()
                return grub
        raise InfraError(
            f"{board.name}: grub: expected grub.cfg in {' or '.join(places)} on the board's own system, found none; "
            "see whether GRUB boots that, and name its directory in boot.directory"
        )

    @property
    def custom(self) -> str:
        return f"{self.directory}/custom.cfg"

    @property
    def ours(self) -> str:
        return f"{self.directory}/harness"

    def _check(self) -> None:
        where, there = f"{self.board.name}: grub", shlex.quote(self.directory)
        run(self.system, f"grep -q 'source.*/custom\\.cfg' {there}/grub.cfg", f"{where}: expected "
            f"{self.directory}/grub.cfg to read custom.cfg, it does not; see that /etc/grub.d/41_custom is there and "
            "executable, and make grub.cfg anew (update-grub, or grub2-mkconfig -o)")  # fmt: skip
        run(self.system, f"[ -w {there} ]", f"{where}: expected to write to {self.directory}, it is read-only")
        # each on its own line; where there is no grub-probe, GRUB itself finds out before it boots
        probe = "p=$(command -v grub-probe || command -v grub2-probe)"
        told = self.system.run(f'{probe} && for t in fs abstraction; do "$p" -t $t {there}; done')
        below = set(told.output.split()) & _NOT_WRITTEN
        if below:
            raise InfraError(
                f"{where}: GRUB can't write to {self.directory}, which is on {' and '.join(sorted(below))}, so it "
                f"could not undo the one-time boot; {_HAVE_ANOTHER}"
            )
        secure = self.system.run(f"od -An -tu1 -j4 -N1 {_SECURE_BOOT}")
        if secure.ok and secure.output.strip() == "1":
            raise InfraError(f"{where}: Secure Boot is on, so GRUB starts signed kernels only; switch it off in the "
                             "board's firmware")  # fmt: skip

    def prepare(self, media: Media, token: str, arguments: str) -> None:
        """Write everything except the file that arms GRUB."""
        where = f"{self.board.name}: grub"
        with media.image.open("rb") as image:
            if image.read(2) != b"MZ":
                raise InfraError(f"{where}: GRUB starts kernels with an EFI stub only, this one has none; build it "
                                 "with EFI (kconfigs: [boards/generic.config])")  # fmt: skip
        files = Files(self.system, self.ours, place=where)
        files.drop_all_but(self.board, media)
        brought = [files.bring(media.image), *files.bring_roots(media), files.bring_device_tree(self.board, media)]
        kernel, *roots, tree = map(posixpath.basename, brought)
        config = grubcfg.config(token, kernel=kernel, roots=roots, tree=tree, arguments=arguments)
        files.write(grubcfg.environment(grubcfg.TAKEN), f"{self.ours}/env")
        files.write(grubcfg.environment(token), f"{self.ours}/env.armed")
        files.write(config.encode(), f"{self.ours}/grub.cfg")
        self._change_custom(grubcfg.with_block)

    def _change_custom(self, change: Callable[[str], str]) -> None:
        """Change custom.cfg, which belongs to the board's owner: keep its mode (it may contain a password), follow a
        link, and remove the file if nothing is left in it."""
        complaint = f"{self.board.name}: grub: {self.custom}: expected to read it"
        name = run(self.system, f"readlink -f {shlex.quote(self.custom)}", complaint).output.strip()
        quoted = shlex.quote(name)
        told = run(self.system, f"[ ! -e {quoted} ] || stat -c %a {quoted}", complaint).output.strip()
        if told and not _MODE.fullmatch(told):
            raise InfraError(f"{complaint}; expected its mode, found {told[:40]!r}")
        before = self.system.get(name).decode(errors="surrogateescape") if told else ""
        after = change(before)
        if told and not after:
            run(self.system, f"rm -f {quoted}", complaint)
        elif after != before:
            self.system.put(after.encode(errors="surrogateescape"), name, mode=int(told, 8) if told else 0o644)

    def leave(self, token: str) -> str:
        """Arm GRUB and reboot in a single command of the own system, so that a failure here can't separate them.
        Returns the boot id."""
        where, armed = f"{self.board.name}: grub", shlex.quote(f"{self.ours}/env")
        boot_id = _uuid(run(self.system, _BOOT_ID, f"{where}: expected a boot id of the board's own system").output)
        run(self.system, f"command -v reboot && mv -f {armed}.armed {armed} && sync && "
            "{ setsid sh -c 'sleep 1; reboot' < /dev/null > /dev/null 2>&1 & }",
            f"{where}: expected the board's own system to reboot")  # fmt: skip
        return boot_id

    def put_back(self) -> None:
        """Restore the own system's configuration if it still answers; the kernels stay for the next boot."""
        ours = shlex.quote(self.ours)
        try:
            self.system.run(f"rm -f {ours}/env {ours}/env.armed {ours}/grub.cfg")
            self._change_custom(grubcfg.without_block)
            self.system.run("sync")
        except HarnessError:
            pass  # the error that led here is reported instead

    def is_back(self, boot_id: str) -> bool:
        """Return whether the own system answers after a reboot."""
        try:
            self.system.connect()
            told = self.system.run(_BOOT_ID, timeout=10.0)
        except HarnessError:
            return False
        return told.ok and _uuid(told.output) not in ("", boot_id)

    def is_armed(self, token: str) -> bool:
        try:
            return grubcfg.value_of(self.system.get(f"{self.ours}/env")) == token
        except HarnessError:
            return False


def _uuid(output: str) -> str:
    """Extract a boot id from output with which background jobs of a user's .bashrc may be mixed."""
    found = re.search(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", output)
    return found[0] if found else ""


def _await_kernel(job: Start, grub: Grub, token: str, boot_id: str) -> None:
    """Wait until GRUB prints that it starts the kernel, or until the kernel prints its command line. Raises InfraError
    if the own system comes back instead, or if nothing appears."""
    where, line = f"{job.board.name}: grub", job.line
    spec = job.board.spec.boot
    assert isinstance(spec, GrubBoot)
    shows = re.escape(job.arguments.split()[0])
    deadline = time.monotonic() + spec.system_seconds
    while time.monotonic() < deadline and not line.closed:
        found = line.expect(
            rf"harness {token}: (?P<said>{grubcfg.STARTING}|{grubcfg.NOT_STARTED}|{grubcfg.NOT_DISARMED})|"
            rf"Kernel command line: [^\r\n]*(?P<kernel>{shows})|{LOGIN.pattern}",
            timeout=min(_LOOK_AGAIN_S, max(0.1, deadline - time.monotonic())),
        )
        if found and (found["kernel"] or found["said"] == grubcfg.STARTING):
            return
        if found and found["said"]:
            raise _refused(where, found["said"], grub, line)
        if grub.is_back(boot_id):
            raise _not_chosen(where, grub, token, line)
    if line.closed:
        raise InfraError(f"{where}: the serial line was lost; see its cable or console server", details=line.tail(8))
    raise InfraError(
        f"{where}: neither the kernel nor the board's own system showed within {spec.system_seconds:.0f} s "
        "(boot.system_seconds) of the reboot; the last console lines follow. Where there is none of GRUB's and none of "
        "a kernel's, this console is another one (console= in cmdline), or the own system did not go down",
        details=line.tail(12),
    )


def _refused(where: str, said: str, grub: Grub, line: Console) -> InfraError:
    if said == grubcfg.NOT_DISARMED:
        return InfraError(
            f"{where}: GRUB can't write to {grub.directory}, so it could not undo the one-time boot, "
            f"and boots the usual system; {_HAVE_ANOTHER}",
            details=line.tail(12),
        )
    return InfraError(f"{where}: GRUB does not start the kernel; it says why in the last console lines, which follow",
                      details=line.tail(12))  # fmt: skip


def _not_chosen(where: str, grub: Grub, token: str, line: Console) -> InfraError:
    """Return the error for a board whose own system is back and accepts a login."""
    armed = grub.is_armed(token)
    grub.put_back()
    if armed:
        return InfraError(
            f"{where}: the board's own system came up again: GRUB did not read {grub.custom}, or can't write beside "
            "it; see whether this is the GRUB that boots it (boot.directory), and GRUB's own words on the console",
            details=line.tail(12),
        )
    return InfraError(
        f"{where}: GRUB took the kernel, but the board's own system came up again without a word of it on this "
        "console; see cmdline (console=, earlycon), and GRUB's own words",
        details=line.tail(12),
    )
