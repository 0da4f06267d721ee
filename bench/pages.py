#!/usr/bin/env python
"""How long each page of `harness web` takes over a history of some size.

    .venv/bin/python bench/pages.py FILE [--times 15]

FILE is a history, which is only read. Of each kind the page that has most to show is asked for, TIMES times after a
first one; the figures are the median of its wall time with the smallest and the largest, and the median of its CPU
time. Needs no kernel, no server and no browser."""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from urllib.parse import urlencode

from werkzeug.test import Client

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.machine import describe, spread
from harness.model.overview import Scope
from harness.store import pages, queries
from harness.store.database import opened
from harness.web.app import App

_ALL = 3660  # days


def addresses(history: Path) -> dict[str, str]:
    """Return the addresses of the pages by what they show."""
    with opened(history) as connection:
        newest, *others = queries.latest_runs(connection, limit=200)
        before = next(run for run in others if run.cell == newest.cell and run.kernel != newest.kernel)
        failing = pages.seen_tests(connection, Scope(), words=(), runs=100, limit=1)[0].name
        faults = pages.signatures_of(connection, Scope(), limit=1)
    words: dict[str, tuple[str, dict[str, str | int]]] = {
        "nights and cells, 14 days": ("", {}),
        "nights and cells, 62 days": ("", {"days": 62}),
        "the latest 200 runs": ("runs", {"days": _ALL}),
        "all tests": ("tests", {"days": _ALL}),
        "a test, 14 days": ("test", {"name": failing}),
        "a test, all of its history": ("test", {"name": failing, "days": _ALL}),
        "all faults": ("faults", {"days": _ALL}),
        "boards, 14 days": ("boards", {}),
        "boards, 1000 runs": ("boards", {"days": _ALL}),
        "a run": ("run", {"id": newest.id}),
        "two runs compared": ("compare", {"old": before.id, "new": newest.id}),
    }
    if faults:
        words["a fault, all of its history"] = ("fault", {"signature": faults[0].text, "days": _ALL})
    return {name: f"/{page}?{urlencode(given)}" for name, (page, given) in words.items()}


def measured(client: Client, address: str, times: int) -> tuple[list[float], list[float], int]:
    """Return the wall and CPU times in milliseconds, and the bytes of the page."""
    client.get(address)
    walls, cpus, size = [], [], 0
    for _ in range(times):
        wall, cpu = time.perf_counter(), time.process_time()
        response = client.get(address)
        walls.append(1000 * (time.perf_counter() - wall))
        cpus.append(1000 * (time.process_time() - cpu))
        assert response.status_code == 200, response.text
        size = len(response.data)
    return walls, cpus, size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("history", type=Path, metavar="FILE")
    parser.add_argument("--times", type=int, default=15)
    options = parser.parse_args()
    with opened(options.history) as connection:
        results = connection.execute("SELECT count(*) FROM results").fetchone()[0]
    print(f"{describe()}; {results} results; median of {options.times} (minimum–maximum)\n")
    print("| page | ms | ms of CPU | KiB |\n|---|---|---|---|")
    client = Client(App(options.history))
    for name, address in addresses(options.history).items():
        walls, cpus, size = measured(client, address, options.times)
        print(f"| {name} | {spread(walls, digits=0)} | {statistics.median(cpus):.0f} | {size / 1024:.0f} |")


if __name__ == "__main__":
    main()
