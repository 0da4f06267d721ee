"""The pages of `harness web` in a real browser: wide and narrow, by keyboard, from the disk, as Jenkins shows them."""

from __future__ import annotations

import contextlib
import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support import expected_conditions as expected
from selenium.webdriver.support.ui import Select, WebDriverWait

from harness.web.address import Filter
from harness.web.export import export
from tests import browser as chromium
from tests import simulated
from tests.screenshots import MOST_BYTES, PICTURES

DOCS = Path(__file__).parents[2] / "docs"
WAIT_S = 30
OLD, NEW = "20261120T010000.000Z-00000000", "20261130T010000.000Z-00000000"
PAGES = (
    "",
    "runs",
    "tests",
    "faults?days=30",
    "boards",
    f"test?name={quote(simulated.FLAKY)}",
    f"fault?signature={quote(str(simulated.CRASH.signature))}&days=30",
    f"run?id={NEW}",
    f"compare?old={OLD}&new={NEW}",
    "nothing",
)
# What Jenkins sends with archived files unless an administrator has changed it.
JENKINS = "sandbox; default-src 'none'; img-src 'self'; style-src 'self';"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(chromium.missing()), reason=f"{chromium.missing()} is not installed: apt-get install it"),
    pytest.mark.xdist_group("browser"),  # one browser at a time
]


@pytest.fixture(scope="module")
def driver() -> Iterator[Chrome]:
    with chromium.browser() as started:
        yield started


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("browser") / "history"
    simulated.write(path)
    return path


@pytest.fixture(scope="module")
def url(history: Path) -> Iterator[str]:
    with chromium.serving(history) as served:
        yield served


@pytest.fixture(scope="module")
def pages(history: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("export") / "pages"
    assert export(history, directory, shown=Filter(days=3)) > 40
    return directory


def complaints(driver: Chrome) -> list[str]:
    """What the browser complained about since it was last asked, but for pages that are meant to be missing."""
    log: list[dict[str, str]] = driver.get_log("browser")  # type: ignore[no-untyped-call]
    return [entry["message"] for entry in log if "404 (NOT FOUND)" not in entry["message"]]


def is_styled(driver: Chrome) -> bool:
    return driver.find_element(By.TAG_NAME, "nav").value_of_css_property("display") == "flex"


def pressed_tab(driver: Chrome) -> WebElement:
    """What has the focus after the key was pressed: it gets it some time later."""
    before = driver.switch_to.active_element
    ActionChains(driver).send_keys(Keys.TAB).perform()
    WebDriverWait(driver, WAIT_S).until(lambda _: driver.switch_to.active_element != before)
    return driver.switch_to.active_element


def name_of(element: WebElement) -> str:
    return element.get_attribute("aria-label") or element.text


@pytest.mark.parametrize("width", [360, 1200])
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.partition("?")[0] or "nights")
def test_a_page_fits_the_screen_and_breaks_no_rule_of_its_own(driver: Chrome, url: str, page: str, width: int) -> None:
    chromium.sized(driver, width)
    driver.get(url + page)
    assert driver.execute_script("return document.documentElement.scrollWidth") == width
    assert is_styled(driver)
    assert complaints(driver) == []


def test_many_nights_are_scrolled_beside_the_cells_names(driver: Chrome, url: str) -> None:
    chromium.sized(driver, 1000)
    driver.get(f"{url}?days=62")
    assert driver.execute_script("return document.documentElement.scrollWidth") == 1000
    name = driver.find_element(By.CSS_SELECTOR, ".matrix tbody th")
    assert name.size["height"] < 80
    place = name.location["x"]
    driver.execute_script("document.querySelector('.wide').scrollLeft = 500")
    assert driver.execute_script("return document.querySelector('.wide').scrollLeft") == 500
    assert name.location["x"] == place


def test_plots_are_as_wide_as_the_text_and_their_labels_as_large(driver: Chrome, url: str) -> None:
    chromium.sized(driver, 360)
    driver.get(f"{url}test?name={quote(simulated.FLAKY)}&days=30&board=rpi4")
    strip, flakiness, durations = driver.find_elements(By.CSS_SELECTOR, "svg")
    text = driver.find_element(By.CSS_SELECTOR, "section p")
    assert {plot.size["width"] for plot in (strip, flakiness, durations)} == {text.size["width"]}
    assert flakiness.find_element(By.CSS_SELECTOR, ".label").size["height"] >= 10
    bars = strip.find_elements(By.CSS_SELECTOR, ".bar")
    heights = {bar.get_attribute("class"): bar.size["height"] for bar in bars}
    assert heights["bar FAIL"] > 1.5 * heights["bar PASS"]
    assert len({bar.location["x"] for bar in bars}) == 28


def test_everything_is_reached_by_keyboard(driver: Chrome, url: str) -> None:
    chromium.sized(driver, 1200)
    driver.get(url)
    seen = []
    for _ in range(60):
        element = pressed_tab(driver)
        seen.append(name_of(element))
        assert element.value_of_css_property("outline-style") != "none", f"the focus on {seen[-1]} can't be seen"
        if "2026-11-30: " in seen[-1]:
            break
    assert seen[:7] == ["to the content", "Nights", "Runs", "Tests", "Faults", "Boards", "Find a test"]
    assert seen[7].startswith("14 days up to 2026-11-30")
    ActionChains(driver).send_keys(Keys.ENTER).perform()
    WebDriverWait(driver, WAIT_S).until(expected.url_contains("/run?id=20261130T02"))


def test_the_skip_link_skips_the_navigation(driver: Chrome, url: str) -> None:
    driver.get(url)
    pressed_tab(driver).send_keys(Keys.ENTER)
    WebDriverWait(driver, WAIT_S).until(expected.url_contains("#content"))
    assert name_of(pressed_tab(driver)).startswith("14 days up to")


def test_a_filter_is_chosen_in_a_form_and_kept_in_the_address(driver: Chrome, url: str) -> None:
    chromium.sized(driver, 1200)
    driver.get(url)
    driver.find_element(By.CSS_SELECTOR, ".filter summary").click()
    Select(driver.find_element(By.NAME, "board")).select_by_visible_text("rpi4")
    days = driver.find_element(By.NAME, "days")
    days.clear()
    days.send_keys("5", Keys.ENTER)
    WebDriverWait(driver, WAIT_S).until(expected.url_contains("board=rpi4"))
    assert "days=5" in driver.current_url
    assert len(driver.find_elements(By.CSS_SELECTOR, ".matrix tbody tr")) == 1
    assert len(driver.find_elements(By.CSS_SELECTOR, ".matrix tbody td")) == 5
    driver.find_element(By.LINK_TEXT, "Runs").click()
    assert len(driver.find_elements(By.CSS_SELECTOR, "tbody tr")) == 5


def test_a_test_is_found_and_two_runs_are_compared(driver: Chrome, url: str) -> None:
    chromium.sized(driver, 1200)
    driver.get(url)
    driver.find_element(By.NAME, "q").send_keys("traced cpu", Keys.ENTER)
    WebDriverWait(driver, WAIT_S).until(expected.title_contains("Tests"))
    driver.find_element(By.LINK_TEXT, simulated.FLAKY).click()
    assert driver.find_element(By.TAG_NAME, "h1").text == simulated.FLAKY
    driver.find_element(By.LINK_TEXT, "Runs").click()
    olds, news = (driver.find_elements(By.NAME, name) for name in ("old", "new"))
    olds[-1].send_keys(Keys.SPACE)
    news[0].send_keys(Keys.SPACE)
    driver.find_element(By.XPATH, "//button[contains(., 'Compare')]").click()
    WebDriverWait(driver, WAIT_S).until(expected.title_contains("Comparison"))
    assert driver.find_element(By.ID, "new-failure").text.startswith("new failure")
    assert complaints(driver) == []


def test_an_export_is_read_from_the_disk(driver: Chrome, pages: Path) -> None:
    chromium.sized(driver, 1200)
    driver.get((pages / "index.html").as_uri())
    assert is_styled(driver)
    driver.find_element(By.CSS_SELECTOR, ".square.failed").click()
    assert driver.find_element(By.TAG_NAME, "h1").text.startswith("Run 20261130T02")
    driver.find_element(By.LINK_TEXT, simulated.BROKEN).click()
    assert driver.find_element(By.TAG_NAME, "h1").text == simulated.BROKEN
    assert driver.find_elements(By.CSS_SELECTOR, "form") == []
    assert is_styled(driver)
    assert complaints(driver) == []


def test_an_export_is_readable_under_the_policy_of_jenkins(driver: Chrome, pages: Path) -> None:
    chromium.sized(driver, 1200)
    with _jenkins(pages) as served:
        driver.get(f"{served}/index.html")
        assert is_styled(driver)
        driver.find_element(By.LINK_TEXT, "Boards").click()
        assert driver.find_element(By.TAG_NAME, "h1").text == "Boards"
        assert driver.find_element(By.CSS_SELECTOR, ".bar").value_of_css_property("fill") != "rgb(0, 0, 0)"
        assert complaints(driver) == []


class _Jenkins(http.server.SimpleHTTPRequestHandler):
    def end_headers(self) -> None:
        self.send_header("Content-Security-Policy", JENKINS)
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def _jenkins(directory: Path) -> Iterator[str]:
    handler = functools.partial(_Jenkins, directory=str(directory))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("name", PICTURES)
def test_the_documents_have_their_pictures(name: str) -> None:
    picture = (DOCS / name).read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) <= MOST_BYTES
    assert f"({name})" in (DOCS / "web.md").read_text()
