"""A real browser, and a server for it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

_START_S = 60
_PAGE_S = 60


def missing() -> str:
    """Return which program is not installed, empty if all are."""
    return next((name for name in ("chromium", "chromedriver") if not shutil.which(name)), "")


@contextlib.contextmanager
def browser() -> Iterator[webdriver.Chrome]:
    """A headless chromium with an empty profile; it can reach no other host than loopback."""
    with tempfile.TemporaryDirectory(prefix="chromium-") as profile:
        options = Options()
        options.binary_location = shutil.which("chromium") or ""
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        for argument in (
            "--headless=new",
            "--disable-gpu",
            "--disable-dev-shm-usage",  # containers have 64 MB there
            "--hide-scrollbars",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            f"--user-data-dir={profile}",
            *(["--no-sandbox"] if os.geteuid() == 0 else []),  # it refuses root otherwise; the pages are ours
        ):
            options.add_argument(argument)
        driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
        try:
            driver.set_page_load_timeout(_PAGE_S)
            yield driver
        finally:
            driver.quit()


def sized(driver: webdriver.Chrome, width: int, height: int = 800) -> None:
    """Make the page's view this large; a window is never as narrow as a telephone."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


@contextlib.contextmanager
def serving(history: Path, *, listen: str = "127.0.0.1:0") -> Iterator[str]:
    """`harness web` in a process of its own; gives its URL. It must end cleanly when it is told to."""
    command = [sys.executable, "-m", "harness", "web", "--history", str(history), "--listen", listen]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        watchdog = _alarm(process)
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            found = re.match(r"(http://127\.0\.0\.\d:\d+/) shows ", said)
            assert found, said
            yield found[1]
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=_START_S) == 0
        finally:
            watchdog.cancel()
            process.kill()


def _alarm(process: subprocess.Popen[str]) -> threading.Timer:
    timer = threading.Timer(10 * _START_S, process.kill)
    timer.daemon = True
    timer.start()
    return timer
