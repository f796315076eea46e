"""The rules of the dashboard's view state, run in a browser on messages made by the service's own types."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, Route, WebSocketRoute, expect

import clmer_server
from clmer_server.protocol.codes import NoticeCode
from clmer_server.protocol.encoding import encode
from clmer_server.protocol.outbound import Notice, Welcome
from clmer_server.protocol.parts import (
    Calibration,
    ClockReading,
    EegQuality,
    EmotionEvent,
    FaceQuality,
    Grid,
    Latency,
    Modalities,
    ModelInfo,
    ModelRef,
    ServerInfo,
)
from clmer_server.session.events import status_message
from clmer_streaming.types import Reason, StreamState, StreamStatus
from tests.support.chromium import headless_chromium

DASHBOARD = Path(clmer_server.__file__).parent / "dashboard"
ADDRESS = "http://dashboard.test/"
LABELS = ("LVLA", "LVHA", "HVLA", "HVHA")
NOT_MEASURED = "–"
MODEL = ModelRef(id="m", sha256="ab" * 32, config_hash="cd" * 6)


def welcome(session: str = "one") -> dict[str, Any]:
    """A welcome of a replay."""
    return plain(
        Welcome(
            session=session,
            server=ServerInfo(version="0"),
            model=ModelInfo(**MODEL.model_dump(), labels=LABELS, trained_on="simulated", runner="r", device="cpu"),
            streams=(),
            clock=ClockReading(lsl_time=0.0, unix_time=0.0),
            source="replay",
            grid=Grid(window_s=2.0, hop_s=0.5),
        )
    )


def prediction(seq: int, probs: dict[str, float] | None, label: str | None = None) -> dict[str, Any]:
    """A prediction at ``seq * 0.5`` s; without ``probs`` nothing at all was measured."""
    nothing = Modalities(
        eeg=EegQuality(used=False, quality=None, age_ms=None, channels_ok=None, interpolated_frac=None),
        face=FaceQuality(used=False, present=None, confidence=None, yaw_deg=None, fps=None, age_ms=None),
    )
    return plain(
        EmotionEvent(
            seq=seq,
            session="one",
            t_start=seq * 0.5 - 2.0,
            t_end=seq * 0.5,
            t_out=seq * 0.5,
            unix_time=0.0,
            valid=probs is not None,
            reasons=() if probs else ("eeg_missing", "face_missing"),
            probs=probs,
            label=label,
            valence=None,
            arousal=None,
            confidence=None,
            entropy=None,
            modalities=nothing,
            latency_ms=Latency(window=None, model=None, publish=None, total=None),
            model=MODEL,
            runner="r",
            batch=0,
            trained_on="simulated",
            calibration=Calibration(face=None, eeg=None),
            crc=0,
            source="replay",
        )
    )


def plain(message: Any) -> dict[str, Any]:
    """The message as the browser gets it."""
    parsed: dict[str, Any] = json.loads(encode(message))
    return parsed


EVEN = dict.fromkeys(LABELS, 0.25)
OPEN = {"phase": "open", "retryAtMs": None}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests of this module."""
    with headless_chromium() as browser:
        yield browser


def dashboard_page(browser: Browser) -> Page:
    """A page that gets the dashboard out of its folder, without a service."""

    def answer(route: Route) -> None:
        path = DASHBOARD / (urlsplit(route.request.url).path.removeprefix("/static/").strip("/") or "index.html")
        route.fulfill(path=path) if path.is_file() else route.abort()

    page = browser.new_page()
    page.route("**/*", answer)
    return page


@pytest.fixture(scope="module")
def modules(browser: Browser) -> Page:
    """A page whose modules can be imported."""
    page = dashboard_page(browser)
    page.goto(ADDRESS)
    return page


def state_after(page: Page, *messages: dict[str, Any]) -> dict[str, Any]:
    """The view state after these messages, each 500 ms after the one before, the first at 0 ms."""
    state: dict[str, Any] = page.evaluate(
        """async ([messages, connection]) => {
            const { initialState, withConnection, withMessage } = await import("/static/state.js");
            const begun = withConnection(initialState(), connection);
            return messages.reduce((state, message, index) => withMessage(state, message, index * 500), begun);
        }""",
        [list(messages), OPEN],
    )
    return state


def status_at(page: Page, state: dict[str, Any], now_ms: float) -> dict[str, Any]:
    """What the banner says of this state at a moment."""
    status: dict[str, Any] = page.evaluate(
        """async ([state, nowMs]) => (await import("/static/state.js")).statusOf(state, nowMs)""", [state, now_ms]
    )
    return status


def texts(page: Page, state: dict[str, Any], selector: str) -> list[str]:
    """The texts of elements after the page has shown this state."""
    found: list[str] = page.evaluate(
        """async ([state, selector]) => {
            (await import("/static/view.js")).showState(state, 0);
            return [...document.querySelectorAll(selector)].map((element) => element.textContent);
        }""",
        [state, selector],
    )
    return found


def call(page: Page, module: str, function: str, *arguments: Any) -> Any:
    """Call an exported function of one of the page's modules."""
    return page.evaluate(
        "async ([module, name, values]) => (await import(`/static/${module}`))[name](...values)",
        [module, function, list(arguments)],
    )


def test_what_was_not_measured_stays_null(modules: Page) -> None:
    """A prediction without values leaves nulls in the history, not zeros."""
    state = state_after(modules, welcome(), prediction(1, None))
    assert state["history"] == [{"t": 0.5, "valid": False, "probs": [None] * 4, "valence": None, "arousal": None}]
    assert state["eventsInvalid"] == 1


def test_what_was_not_measured_is_shown_as_a_dash(modules: Page) -> None:
    """Nowhere on the page does an unmeasured value read 0."""
    state = state_after(modules, welcome(), prediction(1, None))
    for selector in (
        "#bars .value",
        "#label",
        "#confidence",
        "#valence",
        "#arousal",
        "#latency",
        "#model-time",
        "#modalities dd",
        "#modalities output",
    ):
        shown = texts(modules, state, selector)
        assert shown
        assert set(shown) == {NOT_MEASURED}, selector


def test_a_measured_zero_is_shown_as_zero(modules: Page) -> None:
    """The dash means not measured, and nothing else."""
    certain = {"LVLA": 0.0, "LVHA": 0.0, "HVLA": 0.0, "HVHA": 1.0}
    state = state_after(modules, welcome(), prediction(1, certain, "HVHA"))
    assert texts(modules, state, "#bars .value") == ["0.00", "0.00", "0.00", "1.00"]


def test_labels_are_text(modules: Page) -> None:
    """Markup in a label or a sentence is shown, not obeyed."""
    markup = "<b id='planted'>bold</b>"
    notice = plain(Notice(code=NoticeCode.SESSION_WARNING, message=markup))
    state = state_after(modules, welcome(), notice, prediction(1, EVEN, label=markup))
    assert texts(modules, state, "#notices li")[0].endswith(markup)
    assert texts(modules, state, "#label") == [markup]
    assert texts(modules, state, "#planted") == []


def test_messages_of_unknown_type_change_nothing(modules: Page) -> None:
    """The protocol may grow without breaking the page."""
    known = state_after(modules, welcome())
    assert state_after(modules, welcome(), {"type": "something.new", "seq": 5}) == known


def test_the_history_holds_one_minute(modules: Page) -> None:
    """At a hop of 0.5 s these are 120 rows, the newest last."""
    state = state_after(modules, welcome(), *(prediction(seq, EVEN) for seq in range(1, 201)))
    assert [row["t"] for row in state["history"]] == [seq * 0.5 for seq in range(81, 201)]
    assert state["events"] == 200


def test_values_are_old_after_three_seconds(modules: Page) -> None:
    """Up to 3 s without a prediction nothing is said; after that the values count as old."""
    state = state_after(modules, welcome(), prediction(1, EVEN))
    arrived_ms = 500
    assert status_at(modules, state, arrived_ms + 3000)["level"] == "ok"
    late = status_at(modules, state, arrived_ms + 3001)
    assert late["old"] is True
    assert "No prediction for more than 3 seconds" in late["text"]


def test_the_end_of_a_recording_is_no_fault(modules: Page) -> None:
    """After ``replay_ended`` the page says so instead of complaining about silence."""
    ended = plain(Notice(code=NoticeCode.REPLAY_ENDED, message="over"))
    state = state_after(modules, welcome(), prediction(1, EVEN), ended)
    status = status_at(modules, state, 60_000)
    assert (status["level"], status["old"]) == ("info", False)
    assert "The recording has ended" in status["text"]


def test_only_another_session_starts_afresh(modules: Page) -> None:
    """A reconnection to the same session keeps the history; another session begins with none."""
    begun = (welcome(), prediction(1, EVEN), prediction(2, EVEN))
    assert len(state_after(modules, *begun, welcome())["history"]) == 2
    assert state_after(modules, *begun, welcome("two"))["history"] == []


def test_a_stream_has_one_row(modules: Page) -> None:
    """A newer status replaces the one before; what is wrong stands below it."""

    def status(state: StreamState, reason: str) -> dict[str, Any]:
        return plain(status_message(StreamStatus("eeg", "eeg", "Headset", state, since=0.0, reason=reason), "one"))

    state = state_after(modules, welcome(), status("live", ""), status("stalled", "silent for 2 s"))
    assert [stream["state"] for stream in state["streams"]] == ["stalled"]
    assert texts(modules, state, "#streams tr")[1] == "silent for 2 s"


def test_streams_that_the_model_does_not_need_stand_behind_those_it_does(modules: Page) -> None:
    """In the order of their appearance otherwise."""
    streams = [
        StreamStatus("lsl:Motion", "other", "Motion", "live", since=0.0),
        StreamStatus("eeg", "eeg", "Headset", "live", since=0.0),
        StreamStatus("lsl:Words", "markers", "Words", "lost", since=0.0),
        StreamStatus("face", "face", "Camera", "live", since=0.0),
    ]
    state = state_after(modules, welcome(), *(plain(status_message(status, "one")) for status in streams))
    assert texts(modules, state, "#streams th") == ["eeg", "face", "lsl:Motion", "lsl:Words"]


def test_every_reason_has_plain_words(modules: Page) -> None:
    """No code of the vocabulary reaches a reader as a code."""
    for reason in Reason:
        assert call(modules, "reasons.js", "reasonText", reason.value) != reason.value.replace("_", " "), reason
    assert call(modules, "reasons.js", "reasonText", "some_new_word") == "some new word"


def test_lines_break_and_bands_stand_where_windows_are_missing_or_invalid(modules: Page) -> None:
    """A missing row becomes an empty one; neighbouring invalid rows become one band of half a hop more each side."""
    rows = [
        {"t": t, "valid": t < 2.0, "probs": [0.5], "valence": 0.5, "arousal": 0.5} for t in (0.5, 1.5, 2.0, 2.5, 3.0)
    ]
    rows[-1]["valid"] = True
    holed = call(modules, "chart_rows.js", "withHoles", rows, 0.5)
    assert [(row["t"], row["probs"]) for row in holed][:3] == [(0.5, [0.5]), (1.0, [None]), (1.5, [0.5])]
    assert call(modules, "chart_rows.js", "invalidSpans", rows, 0.5) == {"left": [-1.25], "right": [-0.25]}


def test_labels_at_the_lines_ends_do_not_overlap(modules: Page) -> None:
    """Equal values get labels one line of text apart, in order, within the chart."""
    heights = call(modules, "chart_rows.js", "labelHeights", [0.98, 0.0, 0.01, 0.99])
    ordered = [heights[index] for index in (1, 2, 0, 3)]
    assert all(upper - lower >= 0.074 for lower, upper in itertools.pairwise(ordered))
    assert min(heights) >= 0
    assert max(heights) <= 1


def test_waiting_for_the_service_grows_to_five_seconds(modules: Page) -> None:
    """Retries come after 0.5, 1, 2 s and so on, never later than 5 s, unless the service names a time."""
    delays = [call(modules, "connection.js", "retryDelayMs", attempt, None) for attempt in range(7)]
    assert delays == [500, 1000, 2000, 4000, 5000, 5000, 5000]
    assert call(modules, "connection.js", "retryDelayMs", 0, 3.0) == 3000


def test_a_lost_connection_is_opened_again(browser: Browser) -> None:
    """After the service is gone and back, the page goes on with the next session by itself."""
    sessions = iter(("one", "two"))

    def greet(socket: WebSocketRoute) -> None:
        session = next(sessions)
        socket.send(json.dumps(welcome(session)))
        socket.send(json.dumps(prediction(1, EVEN)))
        if session == "one":
            socket.close()

    page = dashboard_page(browser)
    page.route_web_socket("**/ws", greet)
    page.goto(ADDRESS)
    expect(page.locator("#session")).to_have_text("two")
    expect(page.locator("#connection")).to_have_text("Connected")
    expect(page.locator("#events")).to_have_text("1")
