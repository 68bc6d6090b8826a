"""The web page in a real Chromium, over the shipped bundle."""

import json
import shutil
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from axe_core_python.selenium import Axe
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.select import Select
from selenium.webdriver.support.wait import WebDriverWait

from serving.tokens import Role, new_token
from tests.shipped import BUNDLE, LABEL
from tests.system.chromium import browser, prefer
from tests.system.served import server

BEFORE_ATTENTION = Path(__file__).parents[1] / "golden" / "format-2"
ENGLISH, FRENCH = "A dog runs in the snow.", "Un chien court dans la neige."
# Records what the translation's box shows, moment by moment.
RECORD = """
window.shown = [];
const target = document.getElementById("target");
new MutationObserver(() => window.shown.push([target.textContent, target.getAttribute("aria-busy")]))
  .observe(target, { childList: true, characterData: true, subtree: true, attributes: true });
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with two versions of one model, the second by a link."""
    models = Path(tmp_path_factory.mktemp("models"))
    shutil.copytree(BUNDLE, models / "en-fr" / BUNDLE.name)
    second = models / "other" / "1"
    shutil.copytree(BUNDLE, second)
    manifest = json.loads((second / "manifest.json").read_text())
    (second / "manifest.json").write_text(json.dumps(manifest | {"name": "other", "version": 1}))
    with server(models, "--web", "127.0.0.1:0", "--default-model", "en-fr") as addresses:
        yield f"http://{addresses.web}/"


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with browser(Path(tmp_path_factory.mktemp("profile"))) as window:
        yield window


@pytest.fixture
def page(window: Chrome, address: str) -> Chrome:
    window.get(address)
    until(window, lambda: Select(at(window, "model")).options)
    return window


def at(window: Chrome, name: str) -> WebElement:
    return window.find_element(By.ID, name)


def all_of(window: Chrome, selector: str) -> list[WebElement]:
    return window.find_elements(By.CSS_SELECTOR, selector)


def until(window: Chrome, holds: Callable[[], Any]) -> Any:
    return WebDriverWait(window, 60).until(lambda _: holds())


def translate(page: Chrome, text: str = ENGLISH) -> None:
    at(page, "source").send_keys(text)
    until(page, lambda: page.find_element(By.ID, "status").text.startswith("Translated by"))


def test_what_is_typed_streams_in(page: Chrome) -> None:
    page.execute_script(RECORD)
    translate(page)
    assert at(page, "target").text == FRENCH
    shown: list[list[str]] = page.execute_script("return window.shown")
    growing = [text for text, busy in shown if busy == "true" and text]
    assert len(set(growing)) > 1, "it came all at once"
    for before, after in pairwise(growing):
        assert after.startswith(before), "something was taken back"


def test_alternatives_and_scores(page: Chrome) -> None:
    translate(page)
    found = all_of(page, "#alternatives li")
    assert len(found) == 3
    scores = [float(one.text.rpartition(" ")[2]) for one in found]
    assert scores == sorted(scores, reverse=True)
    second = all_of(page, "#alternatives button")[1]
    second.click()
    assert second.get_attribute("aria-pressed") == "true"
    assert at(page, "target").text == second.text != FRENCH


def test_models_are_switched(page: Chrome) -> None:
    assert [one.text for one in Select(at(page, "source-language")).options] == ["English"]
    assert [one.text for one in Select(at(page, "target-language")).options] == ["French"]
    assert [one.text for one in Select(at(page, "model")).options] == [LABEL, "other/1"]
    translate(page)
    assert at(page, "status").text == f"Translated by {LABEL}."
    Select(at(page, "model")).select_by_visible_text("other/1")
    until(page, lambda: at(page, "status").text == "Translated by other/1.")
    assert at(page, "target").text == FRENCH


def test_a_word_that_is_pointed_at_shows_what_it_comes_from(page: Chrome) -> None:
    translate(page)
    words = {one.text: one for one in all_of(page, "#target-words button")}
    ActionChains(page).move_to_element(words["chien"]).perform()
    until(page, lambda: [one.text for one in all_of(page, "#source-words .linked")] == ["dog"])
    assert at(page, "link").text == "“chien” comes from “dog”."


def test_the_map_has_a_row_for_each_word(page: Chrome) -> None:
    translate(page)
    page.find_element(By.CSS_SELECTOR, "#map summary").click()
    rows = all_of(page, "#map-table tbody tr")
    assert [row.find_element(By.TAG_NAME, "th").text for row in rows] == [
        "Un",
        "chien",
        "court",
        "dans",
        "la",
        "neige",
        ".",
    ]
    assert len(all_of(page, "#map-table thead th")) == len(all_of(page, "#source-words button"))


def test_a_model_that_does_not_tell_its_attention_has_no_map_of_it(window: Chrome) -> None:
    with server(BEFORE_ATTENTION, "--web", "127.0.0.1:0") as addresses:
        window.get(f"http://{addresses.web}/")
        until(window, lambda: Select(at(window, "model")).options)
        translate(window, "seven four")
        assert not at(window, "attention").is_displayed()


def test_attention_is_asked_for_when_its_map_is_opened(page: Chrome) -> None:
    def asked() -> int:
        messages = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
        requests = [one["params"]["request"] for one in messages if one["method"] == "Network.requestWillBeSent"]
        return sum("include_attention" in one.get("postData", "") for one in requests)

    def type_in(text: str) -> None:
        at(page, "source").send_keys(text)
        until(page, lambda: at(page, "details").is_displayed())

    for kind in ("performance", "browser"):
        page.get_log(kind)
    type_in(f"{ENGLISH}\n{ENGLISH}")
    assert asked() == 0
    summary = page.find_element(By.CSS_SELECTOR, "#attention summary")
    summary.send_keys(Keys.ENTER)
    captions = until(page, lambda: [one.text for one in all_of(page, "#attention caption")])
    assert captions == ["Part 1 of 2", "Part 2 of 2"]
    assert asked() == 1
    first = all_of(page, "#attention table")[0]
    columns = [one.text for one in first.find_elements(By.CSS_SELECTOR, "thead th")]
    assert columns[-1] == "</s>"
    assert "dog" in columns
    rows = first.find_elements(By.CSS_SELECTOR, "tbody tr")
    assert rows
    for row in rows:
        assert row.find_element(By.TAG_NAME, "th").get_attribute("scope") == "row"
        figures = [float(cell.text or "0") for cell in row.find_elements(By.TAG_NAME, "td")]
        assert len(figures) == len(columns)
        assert sum(figures) == pytest.approx(1, abs=0.01 * len(figures))
    for scheme in ("dark", "light"):
        prefer(page, scheme)
        assert not [(one["id"], one["nodes"][0]["html"]) for one in Axe().run(page)["violations"]]
    assert page.get_log("browser") == []
    summary.send_keys(Keys.ENTER)
    at(page, "source").send_keys(Keys.CONTROL, "a")
    at(page, "source").send_keys(Keys.BACKSPACE)
    until(page, lambda: not at(page, "details").is_displayed())
    type_in(ENGLISH)  # while the map is closed
    assert not all_of(page, "#attention caption")
    assert asked() == 0


def test_flags_are_told_in_words(page: Chrome) -> None:
    translate(page, "Chapter 12 of 37 begins on page 411 of the year 1999.")
    flags = page.execute_script("return [...document.querySelectorAll('#flags li')].map((one) => one.textContent)")
    assert all(flag and flag == flag.lower() for flag in flags)


def test_the_keyboard_is_enough(page: Chrome) -> None:
    """From the first key to a word of the second alternative, without a pointer."""

    def press(*keys: str) -> WebElement:
        ActionChains(page).send_keys(*keys).perform()
        return page.switch_to.active_element

    def walk_to(selector: str) -> WebElement:
        for _ in range(30):
            reached = press(Keys.TAB)
            if reached in all_of(page, selector):
                return reached
        raise AssertionError(f"{selector} is not reached by the Tab key")

    assert page.switch_to.active_element == at(page, "source")
    press(ENGLISH)
    ActionChains(page).key_down(Keys.CONTROL).send_keys(Keys.ENTER).key_up(Keys.CONTROL).perform()
    until(page, lambda: at(page, "target").text == FRENCH and at(page, "details").is_displayed())
    walk_to("#target")
    walk_to("#alternatives button")
    second = press(Keys.TAB)
    press(Keys.ENTER)
    assert at(page, "target").text == second.text
    walk_to("#target-words button")
    word = press(Keys.ARROW_RIGHT)
    assert word.text == all_of(page, "#target-words button")[1].text
    assert at(page, "link").text.startswith(f"“{word.text}” ")
    walk_to("summary")
    press(Keys.ENTER)
    assert at(page, "map-table").is_displayed()


def test_nothing_keeps_anybody_out(page: Chrome) -> None:
    """The rules of axe-core, in light and dark, before and after a translation."""

    def check() -> None:
        for scheme in ("dark", "light"):
            prefer(page, scheme)
            found = Axe().run(page)["violations"]
            assert not [(scheme, one["id"], [node["html"] for node in one["nodes"]]) for one in found]

    check()
    translate(page)
    page.find_element(By.CSS_SELECTOR, "#map summary").click()
    check()


@pytest.mark.parametrize("path", ["", "docs"])
def test_nobody_else_is_asked_and_nothing_is_refused(page: Chrome, address: str, path: str) -> None:
    for kind in ("performance", "browser"):
        page.get_log(kind)  # forgets what was before
    page.get(address + path)
    if path:
        until(page, lambda: len(all_of(page, ".operation")) > 10)
        assert not Axe().run(page)["violations"]
    else:
        translate(page)
    messages = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    asked = [one["params"]["request"]["url"] for one in messages if one["method"] == "Network.requestWillBeSent"]
    assert len(asked) > 3
    assert all(url.startswith(address) for url in asked)
    assert page.get_log("browser") == []  # where a breach of the Content-Security-Policy would be told


def test_a_server_with_tokens_asks_for_one(window: Chrome, tmp_path: Path) -> None:
    token, line = new_token("somebody", Role.TRANSLATE)
    (tmp_path / "tokens").write_text(line + "\n")
    options = ["--web", "127.0.0.1:0", "--tokens", str(tmp_path / "tokens")]
    with server(BUNDLE.parents[1], *options) as addresses:
        window.get(f"http://{addresses.web}/")
        until(window, lambda: at(window, "token-form").is_displayed())
        assert window.switch_to.active_element == at(window, "token")
        at(window, "token").send_keys(token, Keys.ENTER)
        until(window, lambda: Select(at(window, "model")).options)
        translate(window)
        assert at(window, "target").text == FRENCH
