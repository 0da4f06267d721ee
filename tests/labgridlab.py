"""A labgrid lab on loopback, of the real parts: a coordinator and an exporter, each a process."""

from __future__ import annotations

import os
import queue
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import yaml

SCRIPTS = Path(sys.executable).parent
_SAID_S = 60.0


class Lab:
    """`places`: name → the exporter's group whose resources it has. `groups`: as the exporter's file has them."""

    def __init__(self, directory: Path, *, places: dict[str, str], groups: dict[str, Any]) -> None:
        self._directory = directory
        self._running: list[subprocess.Popen[str]] = []
        matches = {
            name: {"matches": [{"exporter": "exp", "group": group, "cls": "*", "name": None, "rename": None}]}
            for name, group in places.items()
        }
        (directory / "places.yaml").write_text(yaml.safe_dump(matches))
        (directory / "exporter.yaml").write_text(yaml.safe_dump(groups))
        self._resources = {(group, name) for group, resources in groups.items() for name in resources}
        self.coordinator = "127.0.0.1:0"
        self.start_coordinator()
        self.start_exporter()

    def start_coordinator(self) -> None:
        """Also after it was ended: at the port where it was."""
        self._coordinator, self._coordinator_says = self._start("labgrid-coordinator", "-l", self.coordinator)
        self.coordinator = f"127.0.0.1:{self._said(self._coordinator_says, 'listening on .*:([0-9]+)')[1]}"

    def end_coordinator(self) -> None:
        """The exporter ends with it, as it does by itself."""
        self._coordinator.kill()
        for process in (self._coordinator, self._exporter):
            process.wait(timeout=60)

    def start_exporter(self) -> None:
        """Start it and wait until the coordinator has all its resources. What the exporter itself prints comes before
        that: it only queues them."""
        words = ("labgrid-exporter", "-c", self.coordinator, "--hostname", "127.0.0.1", "-n", "exp", "exporter.yaml")
        self._exporter, _ = self._start(*words)
        missing = set(self._resources)
        while missing:
            told = self._said(self._coordinator_says, r"set_resource (\S+) (\S+) (?!None)")
            missing.discard((told[1], told[2]))

    def end_exporter(self) -> None:
        """End it and wait until the coordinator has forgotten its resources."""
        self._exporter.kill()
        self._exporter.wait(timeout=60)
        present = set(self._resources)
        while present:
            told = self._said(self._coordinator_says, r"set_resource (\S+) (\S+) None")
            present.discard((told[1], told[2]))

    def _start(self, *words: str) -> tuple[subprocess.Popen[str], queue.SimpleQueue[str]]:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", "--", SCRIPTS / words[0], *words[1:]],
            cwd=self._directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._running.append(process)
        says: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=_listen, args=(process, says), daemon=True).start()
        return process, says

    def _said(self, says: queue.SimpleQueue[str], what: str) -> re.Match[str]:
        """Wait until a process says it."""
        while True:
            line = says.get(timeout=_SAID_S)
            assert line, f"ended before it said: {what}"
            if found := re.search(what, line):
                return found

    def end(self) -> None:
        for process in reversed(self._running):
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def client(self, place: str, *words: str, user: str = "") -> None:
        """labgrid's own command line client, by `user` of another host, or by who we are."""
        other = {"LG_USERNAME": user, "LG_HOSTNAME": "elsewhere"} if user else {}
        command: list[str | Path] = [SCRIPTS / "labgrid-client", "-x", self.coordinator, "-p", place, *words]
        subprocess.run(command, env={**os.environ, **other}, check=True, stdout=subprocess.DEVNULL, timeout=60)

    def owner(self, place: str) -> str:
        """Who has the place, as the coordinator says; empty where nobody has."""
        import grpc
        from labgrid.remote.generated import labgrid_coordinator_pb2 as messages
        from labgrid.remote.generated.labgrid_coordinator_pb2_grpc import CoordinatorStub

        with grpc.insecure_channel(self.coordinator, options=[("grpc.enable_http_proxy", 0)]) as channel:
            answer = CoordinatorStub(channel).GetPlaces(messages.GetPlacesRequest(), timeout=30, wait_for_ready=True)
        [found] = [each for each in answer.places if each.name == place]
        return str(found.acquired)


def _listen(process: subprocess.Popen[str], says: queue.SimpleQueue[str]) -> None:
    """Read all that it prints, or it would wait for us; an empty line at its end."""
    assert process.stdout
    for line in process.stdout:
        says.put(line)
    says.put("")
