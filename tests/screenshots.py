"""`python -m tests.screenshots DIR`: the pictures in docs/web.md, of simulated runs in chromium."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from urllib.parse import quote

from tests import simulated
from tests.browser import browser, serving, sized

MOST_BYTES = 100_000
_WIDTH = 1000
PICTURES = {
    "web-nights.png": ("", 605),
    "web-test.png": (f"test?name={quote(simulated.FLAKY, safe='/')}&days=30&board=rpi4", 632),
}


def main(directory: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch, browser() as driver:
        history = Path(scratch) / "history"
        simulated.write(history)
        with serving(history) as url:
            for name, (address, height) in PICTURES.items():
                sized(driver, _WIDTH, height)
                driver.get(url + address)
                (directory / name).write_bytes(driver.get_screenshot_as_png())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
