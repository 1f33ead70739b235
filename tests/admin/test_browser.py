"""The status page in headless Chromium: seen, used by keyboard, with script off."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from engine.admin.view import ShardState, TaskState
from engine.clock import SYSTEM
from engine.observe.failures import LastFailure
from engine.shared.link import AskOutcome
from tests.fakes.view import FakeView, Obeying, card, serving
from tests.needs import need

HOSTILE = "<script>window.struck = 1</script>\"'><img src=x onerror='window.struck=1'>"

FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

#: Every text that a reader sees, with its colour and the ground it stands on.
COLOURS = """
const found = [];
const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
for (let node = walk.nextNode(); node; node = walk.nextNode()) {
  const text = node.textContent.trim();
  const holder = node.parentElement;
  if (!text || ["SCRIPT", "STYLE", "NOSCRIPT"].includes(holder.tagName)) continue;
  if (!holder.checkVisibility()) continue;
  let ground = null;
  for (let at = holder; at && !ground; at = at.parentElement) {
    const colour = parse(getComputedStyle(at).backgroundColor);
    if (colour.length === 3 || colour[3] === 1) ground = colour;
  }
  found.push([text, parse(getComputedStyle(holder).color), ground || [255, 255, 255]]);
}
return found;
"""

_Found = TypeVar("_Found")


class Engine(Obeying):
    """An engine that a test plays, and the page it serves."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        now = SYSTEM.wall_ms()
        names = ["orders", "issues", HOSTILE, "resting"]
        self.view = FakeView(
            str(directory / "meters"),
            started_ms=now - 60_000,
            cards=[card(name) for name in names],
        )
        self.produced = 1000
        self.view.task_states = [
            TaskState("orders", 0, "RUNNING"),
            TaskState("issues", 0, "RUNNING"),
            TaskState(HOSTILE, 0, "FAILED", trace=HOSTILE),
            TaskState("resting", 0, "PAUSED"),
        ]
        self.view.targets["resting"] = "PAUSED"
        self.view.shards = self.shards  # type: ignore[method-assign]
        self.url = ""

    def shards(self) -> list[ShardState]:
        now = SYSTEM.wall_ms()
        denied = LastFailure("denied", "answers 401", 17, 4, now, now, now + 30_000)
        struck = LastFailure("record", HOSTILE, 1, 1, now, now)
        produced = {"received": self.produced, "produced": self.produced}
        return [
            ShardState(0, "orders", "api1", "api1", 0, produced, success_ms=now),
            ShardState(1, "issues", "api1", "api1", 0, {}, failure=denied),
            ShardState(
                2, HOSTILE, "a", HOSTILE, 0, {}, failure=struck, position=HOSTILE
            ),
            ShardState(3, "resting", "api1", "api1", 0, {}, success_ms=now),
        ]

    def ask(self, verb: str, connector: str, **more: Any) -> AskOutcome:
        super().ask(verb, connector, **more)
        state = {"pause": "PAUSED", "resume": "RUNNING"}.get(verb)
        if state is None:
            return AskOutcome(0, refusal="busy", message="It cannot be done now.")
        self.view.targets[connector] = state
        self.view.task_states = [
            TaskState(task.connector, 0, state) if task.connector == connector else task
            for task in self.view.task_states
        ]
        return AskOutcome(0)


@pytest.fixture(scope="module")
def chromium() -> Iterator[webdriver.Chrome]:
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    need(program and driver, "chromium with chromedriver")
    options = Options()
    options.binary_location = str(program)
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = webdriver.Chrome(options=options, service=Service(str(driver)))
    started.set_page_load_timeout(60)
    yield started
    started.quit()


@pytest.fixture
def browser(chromium: webdriver.Chrome) -> Iterator[webdriver.Chrome]:
    chromium.delete_all_cookies()
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    chromium.get_log("browser")  # type: ignore[no-untyped-call]
    yield chromium
    chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    said = chromium.get_log("browser")  # type: ignore[no-untyped-call]
    chromium.get("about:blank")
    # A refusal of ours (409) is logged as such; a breach of the policy never.
    assert [] == [
        line
        for line in said
        if line["level"] == "SEVERE" and "status of 4" not in line["message"]
    ]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = Engine(tmp_path)
    with serving(made.view, str(tmp_path / "ports"), commands=made) as urls:
        made.url = urls[0] + "/"
        yield made


def until(
    browser: webdriver.Chrome, asked: Callable[[webdriver.Chrome], _Found]
) -> _Found:
    found: _Found = WebDriverWait(browser, 30).until(lambda one: asked(one))
    return found


def shown(browser: webdriver.Chrome, width: int, scheme: str) -> None:
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
    )


def buttons(browser: webdriver.Chrome) -> list[WebElement]:
    return browser.find_elements(By.TAG_NAME, "button")


def luminance(colour: list[float]) -> float:
    """WCAG 2.2, relative luminance."""
    parts = [
        one / 255 / 12.92
        if one / 255 <= 0.04045
        else ((one / 255 + 0.055) / 1.055) ** 2.4
        for one in colour[:3]
    ]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def contrast(one: list[float], other: list[float]) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 1440])
def test_it_fits_and_can_be_read(
    browser: webdriver.Chrome, engine: Engine, width: int, scheme: str
) -> None:
    shown(browser, width, scheme)
    browser.get(engine.url)

    assert (
        browser.execute_script("return document.documentElement.scrollWidth") <= width
    )
    texts: list[Any] = browser.execute_script(COLOURS)
    assert len(texts) > 80
    for text, ink, ground in texts:
        assert contrast(ink, ground) >= 4.5, (text, ink, ground)
    dark = luminance(texts[0][2]) < 0.2
    assert dark == (scheme == "dark")
    for button in buttons(browser):
        assert button.size["height"] >= 32


def test_text_of_others_runs_nothing(browser: webdriver.Chrome, engine: Engine) -> None:
    browser.get(engine.url)

    headings = [one.text for one in browser.find_elements(By.TAG_NAME, "h2")]

    assert HOSTILE in headings
    assert browser.execute_script("return window.struck === undefined")
    assert 0 == len(browser.find_elements(By.TAG_NAME, "img"))
    # What comes with a later look is put in without running, too.
    engine.produced = 4321
    until(browser, lambda one: "4,321" in one.page_source)
    assert browser.execute_script("return window.struck === undefined")


def test_it_is_used_by_keyboard_alone(
    browser: webdriver.Chrome, engine: Engine
) -> None:
    browser.get(engine.url)
    wanted = "pause orders"
    for _ in range(60):
        webdriver.ActionChains(browser).send_keys(Keys.TAB).perform()
        focused = browser.switch_to.active_element
        outline = browser.execute_script(
            "return getComputedStyle(arguments[0]).outlineStyle", focused
        )
        assert "solid" == outline, focused.get_attribute("outerHTML")
        if focused.get_attribute("aria-label") == wanted:
            break
    webdriver.ActionChains(browser).send_keys(Keys.ENTER).perform()

    until(browser, lambda one: "orders is paused." in one.page_source)
    assert [("pause", "orders")] == [one[:2] for one in engine.asked]
    until(
        browser,
        lambda one: one.find_elements(By.CSS_SELECTOR, "[aria-label='resume orders']"),
    )


def test_it_works_without_script(browser: webdriver.Chrome, engine: Engine) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    browser.get(engine.url)

    assert "1,000" in browser.page_source
    assert "answers 401" in browser.page_source
    browser.find_element(By.CSS_SELECTOR, "[aria-label='resume resting']").click()

    until(browser, lambda one: "resting runs again." in one.page_source)
    assert [("resume", "resting")] == [one[:2] for one in engine.asked]


def test_what_cannot_be_done_is_said(browser: webdriver.Chrome, engine: Engine) -> None:
    browser.get(engine.url)
    browser.find_element(By.CSS_SELECTOR, "[aria-label='stop orders']").click()

    alert = until(
        browser, lambda one: one.find_element(By.CSS_SELECTOR, ".problem:not([hidden])")
    )
    assert "It cannot be done now." == alert.text


def test_it_follows_without_taking_the_focus(
    browser: webdriver.Chrome, engine: Engine
) -> None:
    browser.get(engine.url)
    button = browser.find_element(By.CSS_SELECTOR, "[aria-label='stop orders']")
    browser.execute_script("arguments[0].focus(); window.same = 1", button)

    engine.produced = 7654

    until(browser, lambda one: "7,654" in one.page_source)
    assert browser.execute_script("return window.same === 1"), "not loaded anew"
    assert button == browser.switch_to.active_element
    engine.view.cards = [*engine.view.cards, card("new-one")]
    until(browser, lambda one: "new-one" in one.page_source)


def test_an_engine_that_has_gone_is_said(
    browser: webdriver.Chrome, tmp_path: Path
) -> None:
    made = Engine(tmp_path)
    with serving(made.view, str(tmp_path / "ports"), commands=made) as urls:
        browser.get(urls[0] + "/")
        away = browser.find_element(By.ID, "away")
        assert not away.is_displayed()

    until(browser, lambda one: away.is_displayed())
    # The browser's own words about the connection are no breach of ours.
    browser.get_log("browser")  # type: ignore[no-untyped-call]
    browser.get("about:blank")


def test_a_token_is_asked_for_and_given(
    browser: webdriver.Chrome, tmp_path: Path
) -> None:
    made = Engine(tmp_path)
    token = "sixteen-letters-and-more"
    with serving(
        made.view, str(tmp_path / "ports"), commands=made, token=token
    ) as urls:
        browser.get(urls[0] + "/")
        assert [] == buttons(browser)
        browser.find_element(By.LINK_TEXT, "Log in").click()
        field = until(browser, lambda one: one.find_element(By.ID, "token"))
        field.send_keys(token + Keys.ENTER)

        until(browser, lambda one: len(buttons(one)) > 5)
        assert json.dumps(token) not in browser.page_source
        names = {one["name"].rpartition("_")[0] for one in browser.get_cookies()}
        assert {"khs_browser", "khs_session"} == names
