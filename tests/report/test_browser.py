"""The page in a real browser: it draws, sorts, searches and plays, and nothing of the corpus runs."""

import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from asr_kd.files import read_json
from asr_kd.pipeline import Job

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (BROWSER and DRIVER), reason="no chromium with chromedriver on this machine"),
]


@pytest.fixture(scope="module", params=[1200, 400])
def browser(request: pytest.FixtureRequest, scored: Job) -> Iterator[Any]:
    """The page, open from disk in a window of that width, its charts drawn."""
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    switches = ("headless=new", "no-sandbox", "disable-dev-shm-usage", "autoplay-policy=no-user-gesture-required")
    for switch in (*switches, f"window-size={request.param},900"):
        options.add_argument(f"--{switch}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        metrics = {"width": request.param, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        driver.get(scored.work.page.resolve().as_uri())
        until(lambda: driver.execute_script("return document.body.dataset.charts"))
        until(lambda: driver.execute_script("return document.querySelectorAll('#strip canvas').length"))
        yield driver
    finally:
        driver.quit()


def until(found: Callable[[], Any], seconds: float = 30) -> Any:
    end = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < end, "nothing came of it"
        time.sleep(0.1)
    return value


def listed(browser: Any) -> list[str]:
    return browser.execute_script("return [...document.querySelectorAll('#list tbody tr')].map((r) => r.dataset.id)")


def test_it_opens_without_a_complaint_and_within_its_width(browser: Any) -> None:
    assert [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []
    charts = browser.execute_script("return document.querySelectorAll('.chart .main-svg').length")
    assert charts >= int(browser.execute_script("return document.body.dataset.charts")) >= 8
    width, room = browser.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert width <= room


def test_the_table_shows_the_figures_of_results_json(browser: Any, scored: Job) -> None:
    rows = browser.execute_script(
        "return [...document.querySelector('#systems table').rows].map((r) => [...r.cells].map((c) => c.innerText))"
    )
    systems = read_json(scored.work.results)["systems"]
    shown = {row[0].split(" ×")[0]: row for row in rows[1:]}
    assert set(shown) == set(systems)
    for name, system in systems.items():
        assert shown[name][rows[0].index("WER test")].startswith(f"{100 * system['wer']['test']['wer']:.1f} [")


def test_text_of_the_corpus_runs_nothing(browser: Any) -> None:
    assert browser.execute_script("return document.querySelectorAll('main b').length") == 0
    assert "<script>alert(1)</script>" in browser.execute_script("return document.body.innerText")
    tick = browser.execute_script(
        "return [...document.querySelectorAll('#speakers .ytick')].map((t) => t.textContent).join(' ')"
    )
    assert "<script>alert(1)</script>" in tick


def test_sorting_and_searching(browser: Any) -> None:
    from selenium.webdriver.common.by import By

    def sort_by(title: str) -> list[str]:
        heads = browser.find_elements(By.CSS_SELECTOR, "#list thead button")
        next(head for head in heads if head.text.startswith(title)).click()
        return listed(browser)

    assert listed(browser)[0] == "utt-2"  # the student has an error there that the baseline has not
    assert sort_by("difference")[0] == "utt-1"
    assert sort_by("utterance") == ["utt-1", "utt-2", "utt-3"]
    assert sort_by("utterance") == ["utt-3", "utt-2", "utt-1"]
    search = browser.find_element(By.ID, "search")
    search.send_keys("hannah")
    assert listed(browser) == ["utt-1"]
    search.send_keys(" nobody")
    assert listed(browser) == []
    browser.execute_script("arguments[0].value = ''; arguments[0].dispatchEvent(new Event('input'))", search)
    assert len(listed(browser)) == 3


def test_the_play_head_moves_with_sound_and_keys(browser: Any) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    browser.find_element(By.CSS_SELECTOR, "#list tbody button").click()
    strip = browser.find_element(By.ID, "strip")

    def at() -> float:
        return float(strip.get_attribute("aria-valuenow"))

    browser.execute_script("arguments[0].focus()", strip)
    strip.send_keys(Keys.HOME)
    assert at() == 0
    strip.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert at() == pytest.approx(0.1)
    states = browser.find_element(By.ID, "now").text
    assert "forced alignment" in states and "ensemble" in states and "student" in states
    strip.send_keys(Keys.SPACE)
    until(lambda: browser.execute_script("return document.getElementById('audio').ended"))
    assert at() > 0.2


def test_nothing_is_cut_off(browser: Any) -> None:
    """Nothing is cut off at the right: what is wider scrolls inside its own box."""
    outside = browser.execute_script(
        "return [...document.querySelectorAll('main *')].filter((e) => !e.closest('.scroll, .strip, .list, .chart') &&"
        " e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.tagName + '#' + e.id + '.' + e.className)"
    )
    assert outside == []
