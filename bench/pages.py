"""How long each page of `harness web` takes: `python -m bench.pages HISTORY`, with a lab's file or one made for it.
Wall time and CPU time, the best of five, in milliseconds; a page may take 300."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from urllib.parse import urlencode

from werkzeug.test import Client

from harness.model.overview import Scope
from harness.store import pages, queries
from harness.store.database import opened
from harness.web.app import App

TIMES = 5
ALL = 3660  # days


def addresses(history: Path) -> dict[str, str]:
    """Return the pages of this history that have the most to show."""
    with opened(history) as connection:
        newest, *others = queries.latest_runs(connection, limit=200)
        before = next(run for run in others if run.cell == newest.cell and run.kernel != newest.kernel)
        failing = pages.seen_tests(connection, Scope(), words=(), limit=1)[0].name
        faults = pages.signatures_of(connection, Scope(), limit=1)
    words: dict[str, tuple[str, dict[str, str | int]]] = {
        "nights, 14": ("", {}),
        "nights, 62": ("", {"days": 62}),
        "runs": ("runs", {"days": ALL}),
        "tests": ("tests", {"days": ALL}),
        "tests found": ("tests", {"q": "a e", "days": ALL}),
        "test, 14 days": ("test", {"name": failing}),
        "test, all": ("test", {"name": failing, "days": ALL}),
        "faults": ("faults", {"days": ALL}),
        "boards, 14 days": ("boards", {}),
        "boards, all": ("boards", {"days": ALL}),
        "run": ("run", {"id": newest.id}),
        "compare": ("compare", {"old": before.id, "new": newest.id}),
    }
    if faults:
        words["fault"] = ("fault", {"signature": faults[0].text, "days": ALL})
    return {name: f"/{page}?{urlencode(given)}" for name, (page, given) in words.items()}


def measured(client: Client, address: str) -> tuple[float, float, int]:
    """Return the least wall and CPU seconds, and the bytes of the page."""
    times = []
    for _ in range(TIMES):
        wall, cpu = time.perf_counter(), time.process_time()
        response = client.get(address)
        times.append((time.perf_counter() - wall, time.process_time() - cpu))
        assert response.status_code == 200, response.text
    return min(wall for wall, _ in times), min(cpu for _, cpu in times), len(response.data)


def main(history: Path) -> None:
    client = Client(App(history))
    print(f"{'page':18} {'ms':>6} {'CPU':>6} {'KiB':>6}")
    for name, address in addresses(history).items():
        wall, cpu, size = measured(client, address)
        print(f"{name:18} {1000 * wall:6.0f} {1000 * cpu:6.0f} {size / 1024:6.0f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
