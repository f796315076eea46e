"""The dashboard in a real browser, served by the real service over the bundled recording."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.chromium import WAIT_MS, headless_chromium, watch
from tests.support.paths import RECORDING
from tests.support.serving import Service, serving

OPTIONS = ("--replay", RECORDING, "--loop", "--device", "cpu")
NOT_MEASURED = "–"
pytestmark = pytest.mark.slow  # a browser and a service

TWO_SESSIONS = f"""
device = "cpu"
[[sessions]]
name = "left"
replay = "{RECORDING}"
loop = true
[[sessions]]
name = "right"
replay = "{RECORDING}"
loop = true
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests of this module."""
    with headless_chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service with two sessions, each replaying the bundled recording at its own pace, again and again."""
    folder = tmp_path_factory.mktemp("service")
    (folder / "clmer.toml").write_text(TWO_SESSIONS)
    with serving(folder) as service:
        yield service


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """An empty page of the size the dashboard is made for."""
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.set_default_timeout(WAIT_MS)
    yield page
    page.close()


def shown_now(page: Page) -> dict[str, Any]:
    """What the page shows of the newest prediction, read in one step."""
    shown: dict[str, Any] = page.evaluate(
        """() => ({
            seq: Number(document.querySelector("#now").dataset.seq),
            validity: document.querySelector("#validity").textContent,
            label: document.querySelector("#label").textContent,
            reasons: [...document.querySelectorAll("#reasons li[title]")].map((item) => item.title),
            probs: Object.fromEntries([...document.querySelectorAll("#bars .row")].map((row) => [
                row.dataset.label,
                [Number(row.querySelector(".bar").ariaValueNow), row.querySelector(".value").textContent],
            ])),
        })"""
    )
    return shown


def wait_for_valid_prediction(page: Page) -> None:
    """Wait until the page shows a prediction with values."""
    expect(page.locator("#validity")).to_have_text("Valid")


def test_the_page_shows_the_newest_message(page: Page, service: Service) -> None:
    """Probabilities, label, validity and reasons are those of the message with the shown number, and they move on."""
    seen = watch(page)
    page.goto(service.url)
    wait_for_valid_prediction(page)
    first = shown_now(page)
    page.wait_for_selector(f'#now:not([data-seq="{first["seq"]}"])')
    shown = shown_now(page)
    message = seen.predictions()[shown["seq"]]
    assert max(seen.predictions()) - shown["seq"] <= 1
    assert shown["seq"] > first["seq"]
    assert shown["validity"] == ("Valid" if message["valid"] else "Not valid")
    assert shown["label"] == (message["label"] or NOT_MEASURED)
    assert shown["reasons"] == message["reasons"]
    assert {label: value for label, (value, _) in shown["probs"].items()} == message["probs"]
    for value, text in shown["probs"].values():
        assert float(text) == pytest.approx(value, abs=0.005)
    assert shown["probs"] != first["probs"]


def test_the_page_is_whole_and_keeps_to_its_service(page: Page, service: Service) -> None:
    """No error in the console, no address outside the service, no scrolling at 1280 x 800; charts are drawn."""
    seen = watch(page)
    page.goto(service.url)
    wait_for_valid_prediction(page)
    assert page.locator("#history-chart canvas").count() > 0
    assert page.locator("#affect-chart canvas").count() > 0
    height = page.evaluate("document.documentElement.scrollHeight")
    assert height <= 800
    assert seen.complaints == []
    assert {urlsplit(url).netloc for url in seen.requests} == {urlsplit(service.url).netloc}
    assert any(url.endswith("/ws") for url in seen.requests)


def test_where_the_numbers_come_from_is_always_said(page: Page, service: Service) -> None:
    """Simulated weights, replay, the model's hash and every stream of the recording are on the page."""
    seen = watch(page)
    page.goto(service.url)
    wait_for_valid_prediction(page)
    welcome = seen.messages[0]
    expect(page.locator("#simulated")).to_be_visible()
    expect(page.locator("#simulated")).to_contain_text("not what anyone feels")
    expect(page.locator("#source")).to_have_text("Replay")
    expect(page.locator("#model")).to_contain_text(welcome["model"]["sha256"][:12])
    expect(page.locator('#streams tr[data-source="eeg"]')).to_contain_text("live")
    expect(page.locator('#streams tr[data-source="face"]')).to_contain_text("live")


def test_the_charts_end_at_the_newest_values(page: Page, service: Service) -> None:
    """The last point of every line is the probability beside its bar."""
    page.goto(service.url)
    wait_for_valid_prediction(page)
    drawn, shown = page.evaluate(
        """() => {
            const plots = window.Bokeh.documents.flatMap((drawn) => drawn.roots());
            const sources = plots.flatMap((plot) => plot.renderers).map((renderer) => renderer.data_source.data);
            const lines = sources.find((data) => "p0" in data);
            const bars = [...document.querySelectorAll("#bars .bar")];
            return [bars.map((_, k) => lines[`p${k}`].at(-1)), bars.map((bar) => Number(bar.ariaValueNow))];
        }"""
    )
    assert drawn == shown


def drawn_eeg(page: Page) -> dict[str, Any]:
    """What the EEG chart holds: how many lines, and how many samples in each."""
    drawn: dict[str, Any] = page.evaluate(
        """() => {
            const plots = window.Bokeh.documents.flatMap((drawn) => drawn.roots());
            const sources = plots.flatMap((plot) => plot.renderers).map((renderer) => renderer.data_source.data);
            const { x } = sources.find((data) => "colour" in data && "x" in data) ?? { x: [] };
            return { lines: x.length, samples: x[0]?.length ?? 0 };
        }"""
    )
    return drawn


def wait_for_seq(page: Page, seq: int) -> None:
    """Wait until a prediction of this number or a later one is shown."""
    page.wait_for_function("seq => Number(document.querySelector('#now').dataset.seq) >= seq", arg=seq)


def test_the_eeg_can_be_looked_at_and_costs_nothing_else(page: Page, service: Service) -> None:
    """Fourteen lines that grow while the dialog is open; no block comes before or behind."""
    seen = watch(page)
    page.goto(service.url)
    wait_for_valid_prediction(page)
    assert seen.n_previews == 0
    page.click("#eeg-open")
    expect(page.locator("#eeg-chart canvas").first).to_be_visible()
    page.wait_for_function("() => window.Bokeh.documents.length > 2")
    deadline = time.monotonic() + WAIT_MS / 1000
    while drawn_eeg(page)["samples"] < 3 * 128:
        assert time.monotonic() < deadline
        page.wait_for_timeout(100)
    assert drawn_eeg(page)["lines"] == 14
    page.click("#eeg-close")
    page.wait_for_function("() => !document.querySelector('#eeg').open")
    shown = shown_now(page)
    wait_for_seq(page, shown["seq"] + 2)  # predictions go on
    n = seen.n_previews
    wait_for_seq(page, shown["seq"] + 4)
    assert seen.n_previews == n
    assert seen.complaints == []


def test_markers_stand_in_the_history(page: Page, service: Service) -> None:
    """Where they happened, by their labels; this one is a client's."""
    page.goto(service.url)
    wait_for_valid_prediction(page)
    with service.connect() as client:
        client.send(json.dumps({"type": "marker", "id": 1, "label": "a marker of the test"}))
        page.wait_for_function(
            """() => window.Bokeh.documents.flatMap((drawn) => drawn.roots()).flatMap((plot) => plot.renderers)
                .some((renderer) => renderer.data_source.data.label?.includes("a marker of the test"))"""
        )


def test_a_service_that_stops_is_said(page: Page, tmp_path: Path) -> None:
    """The page tells why, calls its values old, and tries to connect again."""
    with serving(tmp_path, *OPTIONS) as service:
        page.goto(service.url)
        wait_for_valid_prediction(page)
        service.end()
        expect(page.locator("#status")).to_contain_text("The service ended the connection")
        expect(page.locator("#status")).to_contain_text("The values shown are old")
        expect(page.locator("#validity")).to_have_text("Out of date")
        expect(page.locator("#connection")).to_contain_text("Reconnecting")


def test_another_session_can_be_chosen(page: Page, service: Service) -> None:
    """The default one comes first; the choice stays in the page's address, and only its events are shown."""
    page.goto(service.url)
    expect(page.locator("#session")).to_have_text("left")
    expect(page.locator("#choice")).to_be_visible()
    assert page.locator("#sessions option").all_text_contents() == ["left (running)", "right (running)"]
    seen = watch(page)
    page.select_option("#sessions", "right")
    expect(page.locator("#session")).to_have_text("right")
    expect(page.locator("#validity")).to_have_text("Valid")
    assert page.url.endswith("/?session=right")
    assert page.locator("#sessions").input_value() == "right"
    assert {event["session"] for event in seen.predictions().values()} == {"right"}
    assert seen.complaints == []
