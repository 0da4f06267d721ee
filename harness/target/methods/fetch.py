"""How U-Boot fetches a file over TFTP (tftpboot) or HTTP (wget), and what its error messages mean."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Protocol
from urllib.parse import urlsplit

from harness.model.boot import UbootBoot

Complaints = tuple[tuple[str, str], ...]
"""U-Boot's messages (regular expressions) and their meanings, checked in this order."""


class Fetch(Protocol):
    """`word`: U-Boot's command. `server`: the name of the server in messages. `gives_up`: what U-Boot prints when it
    will not return to its prompt (a regular expression)."""

    word: str
    server: str
    gives_up: str

    @property
    def complaints(self) -> Complaints: ...

    def prepare(self, run: Callable[[str], str]) -> None:
        """Do what is needed once before the first file; `run` runs a command of U-Boot."""

    def command(self, address: str, name: str) -> str:
        """Return the command that loads the file `name` of the server to `address`."""
        ...

    def finding(self, output: str, came: str) -> str:
        """Explain a missing file about which U-Boot printed no error; `came`: the byte count that it printed, if
        any."""
        ...


def fetch_of(spec: UbootBoot) -> Fetch:
    return Wget(spec.http_url, ours=bool(spec.http_serve)) if spec.load == "http" else Tftp()


class Tftp:
    word = "tftpboot"
    server = "TFTP server"
    complaints: Complaints = (
        (r"TFTP error: .*(?i:file not found)|TFTP error: .*\(1\)", "the TFTP server has no such file; see whether it "
         "serves the directory that boot.tftp_root names"),
        (r"TFTP error: .*(?i:access violation)|TFTP error: .*\(2\)", "the TFTP server may not read the file; see the "
         "permissions of the directory that boot.tftp_root names"),
        (r"TFTP error: trying to overwrite reserved memory", "the address is not free memory; see boot.kernel_at, "
         "boot.ramdisk_at and boot.dtb_at"),
        (r"TFTP error: [^\r\n]*", "the TFTP server refuses"),
        (r"Unknown command 'tftpboot'", "this U-Boot has no TFTP; build it with CMD_TFTPBOOT"),
    )  # fmt: skip
    gives_up = ""

    def prepare(self, run: Callable[[str], str]) -> None:
        """Nothing to do: `tftpboot` is the same in all versions."""

    def command(self, address: str, name: str) -> str:
        return f"tftpboot {address} {name}"

    def finding(self, output: str, came: str) -> str:
        return f"{f'{came} came' if came else 'no such message'}; see the TFTP server"


class Wget:
    """U-Boot's wget. The old form is `wget ADDRESS HOST:/PATH`, with the port in a variable (the oldest versions
    support port 80 only); with lwIP wget takes a URL, as its help text says.

    Without lwIP, wget stores an error page as if it were the file; only the first line of the answer shows the
    difference."""

    word = "wget"
    server = "web server"
    gives_up = r"wget: Transfer Fail - [^\r\n]+"

    def __init__(self, url: str, *, ours: bool) -> None:
        parts = urlsplit(url)
        self._host, self._path = parts.hostname or "", parts.path.rstrip("/")
        self._port = parts.port or 80
        self._keys = "boot.http_serve" if ours else "boot.http_root and boot.http_url"
        self._takes_url = False

    @property
    def complaints(self) -> Complaints:
        see = f"see {self._keys}{self._port_hint}"
        answer = r"HTTP/1\.\d {0}\b[^\r\n|]*|HTTP server error {0}\b"
        return (
            (r"Unknown command 'wget'", "this U-Boot can't load over HTTP; set boot.load: tftp, or build it with "
             "CMD_WGET (2022.10 and newer)"),
            (answer.format("404"), f"the web server has no such file; {see}"),
            (answer.format("40[13]"), f"the web server denies access to it; see its permissions there, and {see[4:]}"),
            (answer.format(r"3\d\d"), f"the web server redirects, and U-Boot does not follow; {see}"),
            (answer.format(r"(?!200)\d{3}"), "the web server refuses; see its log"),
            (r"Transfer Fail - Image not found", "the web server closed the connection without an answer; see its log"),
            (r"HTTP client error \d+|Transfer Fail - [^\r\n]+|(?:ARP )?Retry count exceeded", self._silent),
            (r"wget: Fatal error, queue overrun", "the head of the web server's answer is too long for this U-Boot"),
        )  # fmt: skip

    @property
    def _silent(self) -> str:
        return (
            f"the web server at {self._host}, port {self._port}, does not answer; see whether it "
            f"runs, {self._keys}, and the network cable{self._port_hint}"
        )

    @property
    def _port_hint(self) -> str:
        return "" if self._port == 80 or self._takes_url else "; an old U-Boot supports port 80 only"

    def prepare(self, run: Callable[[str], str]) -> None:
        self._takes_url = "url" in run("help wget").lower()
        run(f"setenv httpdstp {self._port}")

    def command(self, address: str, name: str) -> str:
        file = f"{self._host}:{self._path}/{name}"
        if self._takes_url:
            file = f"http://{self._host}:{self._port}{self._path}/{name}"
        return f"wget {address} {file}; echo"  # else the prompt would not always get a line of its own

    def finding(self, output: str, came: str) -> str:
        if came or re.search(r"HTTP/1\.\d 200", output):
            return f"{came or 'not all'} came; see whether the web server still runs"
        return f"none came: {self._silent}"
