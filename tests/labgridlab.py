"""A labgrid lab on loopback, of the real parts: a coordinator and an exporter, each a process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import yaml

SCRIPTS = Path(sys.executable).parent


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
        self.coordinator = "127.0.0.1:0"
        self.start_coordinator()
        self.start_exporter()

    def start_coordinator(self) -> None:
        """Also after it was ended: at the port where it was."""
        self._coordinator = self._start("listening on .*:([0-9]+)", "labgrid-coordinator", "-l", self.coordinator)
        self.coordinator = f"127.0.0.1:{self._found}"

    def end_coordinator(self) -> None:
        """The exporter ends with it, as it does by itself."""
        self._coordinator.kill()
        for process in (self._coordinator, self._exporter):
            process.wait(timeout=60)

    def start_exporter(self) -> None:
        words = ("labgrid-exporter", "-c", self.coordinator, "--hostname", "127.0.0.1", "-n", "exp", "exporter.yaml")
        self._exporter = self._start("creating (poll task)", *words)  # when everything was told to the coordinator

    def _start(self, until: str, *words: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", "--", SCRIPTS / words[0], *words[1:]],
            cwd=self._directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._running.append(process)
        assert process.stdout
        for line in process.stdout:
            if found := re.search(until, line):
                self._found = found[1]
                # what comes later has to be read, or the process would wait for us
                threading.Thread(target=process.stdout.read, daemon=True).start()
                return process
        raise AssertionError(f"{words[0]} ended: {process.wait()}")

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
