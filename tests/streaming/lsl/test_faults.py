"""Claims about every row of the fault table (``lsl_faults.py``), which is run once for all of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from clmer_streaming.errors import StreamError
from clmer_streaming.types import Chunk, Reason, StreamInfo, Tick
from tests.support import lsl_link
from tests.support.lsl_faults import ROWS, Outcome, missing, run_all
from tests.support.two_hosts import on_the_near_host

pytestmark = [pytest.mark.lsl, pytest.mark.slow]

WARM_UP_S = 3.5
"""Settling, a window and a hop, and half a second in which the first chunks may be late."""

RESTARTED_S = 30.0
"""As above for a headset whose program starts anew: on busy cores its first chunks come unevenly, and its rate late."""


@pytest.fixture(scope="module")
def rows() -> dict[str, Outcome]:
    """What came of every row."""
    return run_all()


@pytest.mark.parametrize("row", ROWS)
def test_no_sample_is_unaccounted_for(rows: dict[str, Outcome], row: str) -> None:
    """Every sample sent, from the first to the last that came, was received or is known to be lost."""
    assert rows[row].unaccounted in (0, None)
    assert (rows[row].unaccounted is None) == (row in ("two", "half lost, no counter"))


@pytest.mark.parametrize("row", ROWS)
def test_what_was_lived_through_replays_to_the_last_bit(rows: dict[str, Outcome], row: str) -> None:
    """The same items, ticks included, give the same windows with the same reasons."""
    assert rows[row].watched.replays_equal()


@pytest.mark.parametrize("row", ROWS)
def test_the_windows_have_no_holes(rows: dict[str, Outcome], row: str) -> None:
    """Every grid point has its window, whatever happened."""
    indices = [window.index for window in rows[row].watched.windows]
    assert indices == list(range(indices[0], indices[0] + len(indices))) if indices else row == "two"


@pytest.mark.parametrize("row", ["killed", "killed, no id", "other channels", "other rate", "useless"])
def test_a_headset_that_returns_is_taken_up_by_itself(rows: dict[str, Outcome], row: str) -> None:
    """Lost, then live; the first window with EEG is full as soon as settling and window allow."""
    states = rows[row].watched.lasting_states
    assert states[:3] == ["connecting", "live", "lost"]
    assert states[-1] == "live"
    assert any("is gone; waiting for it to come back" in said for said in rows[row].said)
    assert 2.5 <= rows[row].back_s <= RESTARTED_S
    assert "eeg_stale" in rows[row].events


@pytest.mark.parametrize("row", ["killed", "killed, no id", "useless"])
def test_the_same_headset_goes_on_behind_a_gap(rows: dict[str, Outcome], row: str) -> None:
    """The gap encloses the time it was away; it is not announced anew, and no window spans the gap."""
    watched = rows[row].watched
    (gap,) = watched.gaps
    assert gap.reason == "stream_restarted"
    assert gap.t1 == rows[row].since
    assert len([item for item in watched.items if isinstance(item, StreamInfo)]) == 1
    assert not [w for w in watched.valid() if w.t_start < gap.t1 and w.t_end > gap.t0 + 0.1]
    assert watched.status.n_gaps == 1


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("other channels", "came back with 16 channels at 128 Hz; before it had 20 channels at 128 Hz"),
        ("other rate", "came back with 20 channels at 256 Hz; before it had 20 channels at 128 Hz"),
        ("useless", "found 5 of them in stream 'useless'"),
    ],
)
def test_a_headset_that_returns_otherwise_is_seen_and_said(rows: dict[str, Outcome], row: str, words: str) -> None:
    """It is said within five seconds, on a machine that does not run twenty headsets besides."""
    assert rows[row].watched.when_said(words) - rows[row].switched_on < 15.0


def test_after_another_rate_the_signal_is_that_of_the_new_rate(rows: dict[str, Outcome]) -> None:
    """Announced anew with 256 Hz: nothing is bridged, nothing is lost."""
    status = rows["other rate"].watched.status
    assert status.nominal_rate_hz == 256.0
    assert (status.n_gaps, status.n_bridged, status.n_lost) == (0, 0, 0)


def test_a_headset_that_answers_and_sends_nothing_is_said_and_loses_nothing(rows: dict[str, Outcome]) -> None:
    """Its connection is kept, so that what it owes comes without a gap."""
    row = rows["zombie"]
    assert row.watched.lasting_states == ["connecting", "live", "lost", "live"]
    assert row.said == ["zombie is on the network but sends nothing; what it sends is taken up at once"]
    assert row.watched.gaps == []
    assert row.back_s < 5.0


def test_a_zombie_gives_way_to_another_of_its_identity(rows: dict[str, Outcome]) -> None:
    """The device was started again, and its old outlet lives on: the new one is taken up, behind a gap."""
    row = rows["zombie, replaced"]
    assert row.watched.lasting_states == ["connecting", "live", "lost", "live"]
    (gap,) = row.watched.gaps
    assert (gap.reason, gap.t1) == ("stream_restarted", row.since)
    assert len([item for item in row.watched.items if isinstance(item, StreamInfo)]) == 1


def test_a_zombie_is_connected_to_anew_after_a_while(rows: dict[str, Outcome]) -> None:
    """Half a minute at most; what it sends while there are two connections, or none, is not lost."""
    row = rows["zombie for long"]
    assert row.watched.lasting_states == ["connecting", "live", "lost", "live"]
    assert row.watched.when_said("is gone") - row.watched.when_said("sends nothing") < 30.0
    assert missing(row.watched.numbers) == 0


def test_a_frozen_headset_loses_nothing(rows: dict[str, Outcome]) -> None:
    """Five seconds of silence are ticks; then every sample comes, the filters go on, no window warms up again."""
    row = rows["frozen"]
    assert row.watched.lasting_states == ["connecting", "live", "lost", "live"]
    assert row.watched.gaps == []
    assert row.watched.status.n_gaps == 0
    assert row.events == ["eeg_stale"]
    assert row.back_s < 1.0


def test_a_backlog_is_caught_up_and_never_shown_as_live(rows: dict[str, Outcome]) -> None:
    """The consumer stood still for 10 s: what ended in that time is stale, what ends now is whole, nothing is lost."""
    row = rows["held up"]
    stale = [w for w in row.watched.windows[row.begin :] if Reason.EEG_STALE in w.reasons]
    assert len(stale) >= 14
    assert max(w.t_end for w in stale) < row.since
    assert row.back_s < 1.0
    assert row.watched.status.n_gaps == 0
    late = [arrival - w.t_end for arrival, w in zip(row.watched.arrivals, row.watched.windows, strict=True)]
    assert max(s for s, w in zip(late, row.watched.windows, strict=True) if w.mask["eeg"].any()) < 5.0


def test_the_tick_that_makes_a_backlog_stale_is_an_item_like_any_other(rows: dict[str, Outcome]) -> None:
    """It stands before the backlog, whose samples are older, so that a recording of the items tells the same."""
    row = rows["held up"]
    items = row.watched.items
    tick = next(i for i, item in enumerate(items) if isinstance(item, Tick) and item.t >= row.since)
    backlog = next(item for item in items[tick:] if isinstance(item, Chunk))
    assert backlog.t[0] < row.since - 8.0


def test_two_streams_of_one_name_are_refused_with_the_list(rows: dict[str, Outcome]) -> None:
    """Nobody guesses whose EEG it is, and the two are named by what tells them apart."""
    error = rows["two"].watched.error
    assert isinstance(error, StreamError)
    assert {"ID-1", "ID-2"} <= set(error.found.replace(",", " ").split())


def test_unix_stamps_are_seen_and_said(rows: dict[str, Outcome]) -> None:
    """Samples stamped in 1.7 thousand million seconds are stamped on arrival instead, and the status says so."""
    row = rows["unix"]
    assert row.said == ["its stamps are Unix time: its samples are stamped when they arrive"]
    assert row.back_s <= 7.0
    latest = row.watched.windows[-1]
    assert abs(row.watched.arrivals[-1] - latest.t_end) < 5.0


def test_emotivs_own_timestamp_is_ignored(rows: dict[str, Outcome]) -> None:
    """In float32 it moves in steps of 128 s; the windows come all the same."""
    row = rows["timestamp"]
    stamps = np.concatenate([chunk.x[0] for chunk in row.watched.chunks])
    assert set(np.unique(np.diff(stamps))) <= {0.0, 128.0}
    assert row.said == []
    assert row.back_s <= WARM_UP_S


@pytest.mark.parametrize(("row", "declares"), [("no rate", "no rate"), ("fast", "106.667 Hz"), ("slow", "160 Hz")])
def test_a_wrong_or_absent_rate_is_found_out(rows: dict[str, Outcome], row: str, declares: str) -> None:
    """The path runs at the true rate, no gap, nothing lost, and the status says so, once the rate is known."""
    assert rows[row].said == [f"declares {declares}, runs at 128 Hz"]
    status = rows[row].watched.status
    assert (status.n_gaps, status.n_lost, status.n_bridged) == (0, 0, 0)
    assert 4.5 <= rows[row].back_s <= 7.0


def test_half_the_samples_lost_is_never_called_eeg(rows: dict[str, Outcome]) -> None:
    """With a counter each lost sample is known; without one there are gaps; valid EEG there is none."""
    for row in ("half lost", "half lost, no counter"):
        assert not rows[row].watched.valid()
        assert rows[row].said[-1] == "more than 40 % of its samples are lost on the way"
    assert rows["half lost"].watched.status.n_lost > 500


def test_flat_and_railed_channels_are_masked(rows: dict[str, Outcome]) -> None:
    """The four are masked in every window, the ten others go on."""
    for window in rows["flat"].watched.valid():
        assert np.flatnonzero(~window.mask["eeg"]).tolist() == [0, 1, 2, 3]


def test_bursts_of_nan_leave_no_trace(rows: dict[str, Outcome]) -> None:
    """50 ms of all sensors are bridged and counted, 300 ms of one are held; every value stays finite."""
    watched = rows["nan"].watched
    assert all(np.isfinite(window.series["eeg"]).all() for window in watched.windows)
    assert watched.status.n_dropped > 0
    assert watched.status.n_gaps == 0
    assert len(watched.valid()) >= 16


def test_chunks_of_two_seconds_work_and_are_warned_of(rows: dict[str, Outcome]) -> None:
    """The length is measured, the windows are whole, and the user is told that they are late."""
    row = rows["long chunks"]
    assert row.watched.status.chunk_s == pytest.approx(255 / 128, rel=0.02)
    assert row.said[-1] == "comes 2.0 s at a time, and so late: let the sender send shorter chunks"
    assert len(row.watched.valid()) >= 16


LINK = Path(lsl_link.__file__).resolve()


@pytest.mark.deep
@pytest.mark.netns
@pytest.mark.parametrize("seconds", [6, 40])
def test_a_network_that_goes_and_comes_back_loses_nothing(tmp_path: Path, seconds: int) -> None:
    """Lost, and why; then every sample of the time between, in order, without a gap, and the same when replayed."""
    printed = on_the_near_host(tmp_path, f'LSLAPICFG=peer.cfg "$PYTHON" "{LINK}" {seconds}', 180)
    seen = json.loads(printed)
    assert seen["states"] == ["connecting", "live", "lost", "live"]
    assert seen["said"] == ["far does not answer; what it sends is taken up at once"]
    assert (seen["gaps"], seen["missing"], seen["n_lost"], seen["replays"]) == ([], 0, 0, True)
