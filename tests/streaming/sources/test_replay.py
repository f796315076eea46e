"""Replay of recordings: what is delivered, in which order, when, and what is refused."""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clmer_streaming.config import EPOC_CH_NAMES, PreprocessConfig
from clmer_streaming.errors import ClmerError, RecordingError, SettingsError, StreamError
from clmer_streaming.face.layout import EXTRACTOR_ID, FACE_CH_NAMES, N_LANDMARKS
from clmer_streaming.pipeline.preprocess import Preprocessor
from clmer_streaming.sources.replay import ReplaySource
from clmer_streaming.sources.replay_streams import EegChoice
from clmer_streaming.types import Chunk, FaceSample, FloatArray, Gap, Item, Marker, StreamInfo, Tick
from clmer_streaming.xdf.format import ChannelFormat
from clmer_streaming.xdf.header import XdfStreamSpec
from clmer_streaming.xdf.reader import read_xdf
from clmer_streaming.xdf.writer import XdfWriter

T0 = 100.0  # s, the first sample of every recording made here
CHUNK_S = 0.25


@dataclass(frozen=True, eq=False)
class Recorded:
    """A stream to be put into a file."""

    spec: XdfStreamSpec
    t: FloatArray  # (n,) seconds
    x: Any  # (C, n) values or n strings


def eeg(t: FloatArray | None = None, **changes: Any) -> Recorded:
    """Two seconds of EPOC EEG in which every value is the number of its sample."""
    stamps = T0 + np.arange(256) / 128 if t is None else t
    fields = {"name": "EPOC-EEG", "type": "EEG", "ch_names": EPOC_CH_NAMES, "sfreq": 128.0, **changes}
    x = np.tile(np.arange(stamps.size), (len(fields["ch_names"]), 1))
    return Recorded(XdfStreamSpec(**fields), stamps, x)


def face(t: FloatArray | None = None, extractor: str = EXTRACTOR_ID, **changes: Any) -> Recorded:
    """Two seconds of CLMER-Face at 25 Hz in which every landmark is the number of its frame."""
    stamps = T0 + np.arange(50) / 25 if t is None else t
    fields = {"name": "CLMER-Face", "type": "MoCap", "ch_names": FACE_CH_NAMES, "sfreq": 25.0, **changes}
    rows = np.zeros((len(fields["ch_names"]), stamps.size))
    rows[: 3 * N_LANDMARKS] = np.arange(stamps.size)
    return Recorded(XdfStreamSpec(**fields, desc={"extractor": extractor}), stamps, rows)


def markers(t: Iterable[float], words: list[str], name: str = "Trials", kind: str = "Markers") -> Recorded:
    spec = XdfStreamSpec(name, kind, ("",), channel_format="string")
    return Recorded(spec, np.array(list(t)), words)


def record(folder: Path, *streams: Recorded, offset_s: float = 0.0) -> Path:
    """Write the streams to a file, with a clock offset each."""
    path = folder / "session.xdf"
    with XdfWriter(path) as xdf:
        for stream in streams:
            stream_id = xdf.add_stream(stream.spec)
            xdf.write_samples(stream_id, stream.t, stream.x)
            xdf.write_offset(stream_id, T0, offset_s)
    return path


def replayed(path: Path, **options: Any) -> list[Item]:
    return list(ReplaySource(path, **options).items())


def of(kind: type, items: Iterable[Item]) -> list[Any]:
    return [item for item in items if isinstance(item, kind)]


def due(item: Item) -> float:
    """Stream time at which an item is delivered: that of its last sample."""
    assert not isinstance(item, StreamInfo | Gap)
    return float(item.t[-1]) if isinstance(item, Chunk) else item.t


def test_announcements_come_first_and_name_the_streams(tmp_path: Path) -> None:
    """EEG, face and markers are announced, with labels, rate, unit and extractor, before any sample."""
    path = record(
        tmp_path,
        markers([T0], ["go"]),
        face(),
        eeg(units=("uV",) * 14, source_id="epoc-1", hostname="lab", manufacturer="Emotiv"),
    )
    source = ReplaySource(path)
    infos = list(itertools.islice(source.items(), 3))
    assert infos == list(source.infos)
    assert [(info.source, info.kind, info.name) for info in source.infos] == [
        ("eeg", "eeg", "EPOC-EEG"),
        ("face", "face", "CLMER-Face"),
        ("markers", "markers", "Trials"),
    ]
    announced = source.infos[0]
    assert (announced.ch_names, announced.sfreq, announced.unit) == (EPOC_CH_NAMES, 128.0, "uV")
    assert (announced.source_id, announced.hostname, announced.manufacturer) == ("epoc-1", "lab", "Emotiv")
    assert source.infos[1].extractor == EXTRACTOR_ID
    assert source.warnings == ()


def test_every_sample_is_delivered_once_with_its_stamp(tmp_path: Path) -> None:
    """EEG chunks joined give the recording back bit for bit; so do frames and markers."""
    items = replayed(record(tmp_path, eeg(), face(), markers([T0 + 0.5, T0 + 1.5], ["sad", "glücklich"])))
    chunks, faces, events = of(Chunk, items), of(FaceSample, items), of(Marker, items)
    assert np.array_equal(np.concatenate([chunk.t for chunk in chunks]), T0 + np.arange(256) / 128)
    assert np.array_equal(np.concatenate([chunk.x for chunk in chunks], axis=1), eeg().x)
    assert {chunk.x.dtype for chunk in chunks} == {np.dtype(np.float64)}
    assert [sample.t for sample in faces] == (T0 + np.arange(50) / 25).tolist()
    assert [sample.landmarks[0, 0] for sample in faces] == list(range(50))
    assert events == [Marker(T0 + 0.5, "1", "sad"), Marker(T0 + 1.5, "2", "glücklich")]
    assert not of(Tick, items)


def test_items_are_in_the_order_of_their_last_stamps(tmp_path: Path) -> None:
    """Streams are merged by time, and a chunk holds no sample later than the item behind it."""
    items = replayed(record(tmp_path, eeg(), face(), markers([T0 + 0.3333], ["go"])))[3:]
    times = [due(item) for item in items]
    assert times == sorted(times)


def test_stamps_are_those_of_the_recorder(tmp_path: Path) -> None:
    """Clock offsets are applied to every stream."""
    items = replayed(record(tmp_path, eeg(), face(), markers([T0 + 1.0], ["go"]), offset_s=-40.0))
    assert of(Chunk, items)[0].t[0] == T0 - 40.0
    assert of(FaceSample, items)[0].t == T0 - 40.0
    assert of(Marker, items)[0].t == T0 - 39.0


@pytest.mark.parametrize(("said", "delay_s"), [("0.2", 0.2), ("nan", 0.0), ("soon", 0.0), ("", 0.0)])
def test_a_known_delay_is_announced(tmp_path: Path, said: str, delay_s: float) -> None:
    """``desc/synchronization/offset_mean`` is announced where it is a number; stamps stay as they are."""
    source = ReplaySource(record(tmp_path, eeg(desc={"synchronization/offset_mean": said})))
    assert source.infos[0].delay_s == delay_s
    assert of(Chunk, source.items())[0].t[0] == T0


def test_chunks_are_short(tmp_path: Path) -> None:
    """No chunk is longer than a quarter of a second in time or in samples, with a dropout and stamps stuck."""
    t = T0 + np.arange(512) / 128
    t[200:] += 0.4
    t[300:400] = t[300]
    for chunk in of(Chunk, replayed(record(tmp_path, eeg(t)))):
        assert np.ptp(chunk.t) <= CHUNK_S
        assert chunk.t.size <= CHUNK_S * 128


def test_stamps_that_step_back_keep_the_order_of_the_file(tmp_path: Path) -> None:
    """Staircase stamps are delivered as they are, in file order, and count as due with the largest before."""
    t = T0 + np.arange(256) / 128
    t[100:110] -= 0.05
    chunks = of(Chunk, replayed(record(tmp_path, eeg(t), face())))
    assert np.array_equal(np.concatenate([chunk.t for chunk in chunks]), t)
    assert np.array_equal(np.concatenate([chunk.x for chunk in chunks], axis=1)[0], np.arange(256))


def test_a_clock_that_steps_far_back_is_said(tmp_path: Path) -> None:
    """A step of 50 s without clock offsets to mend it gives a warning, and all samples still come."""
    t = T0 + np.arange(256) / 128
    t[128:] -= 50.0
    source = ReplaySource(record(tmp_path, eeg(t)))
    assert any("step back by 50" in warning for warning in source.warnings)
    assert sum(chunk.t.size for chunk in of(Chunk, source.items())) == 256


def test_silence_is_said_every_half_second(tmp_path: Path) -> None:
    """EEG that is lost for 1.6 s gives three ticks while the face goes on; the face that never stops gives none."""
    t = T0 + np.arange(512) / 128
    t[128:] += 1.6
    items = replayed(record(tmp_path, eeg(t), face(T0 + np.arange(141) / 25)))
    last = t[127]
    assert [(tick.source, round(tick.t - last, 9)) for tick in of(Tick, items)] == [
        ("eeg", 0.5),
        ("eeg", 1.0),
        ("eeg", 1.5),
    ]
    times = [due(item) for item in items[2:]]
    assert times == sorted(times)


def test_a_stream_that_starts_late_or_ends_early_is_silent_meanwhile(tmp_path: Path) -> None:
    """A face from second 1 to second 2 of 4 gives ticks before it and up to the end of the recording."""
    t = T0 + np.arange(512) / 128
    items = replayed(record(tmp_path, eeg(t), face(T0 + 1.1 + np.arange(25) / 25)))
    assert [round(tick.t - T0, 9) for tick in of(Tick, items) if tick.source == "face"] == [0.5, 1.0, 2.56, 3.06, 3.56]


def test_a_silence_of_hours_is_passed_over(tmp_path: Path) -> None:
    """Ticks are given for the first ten minutes of a silence, and a paced replay goes on at once behind them."""
    t = T0 + np.arange(256) / 128
    t[128:] += 3000.0
    source = ReplaySource(record(tmp_path, eeg(t)), speed=2000.0)
    items: list[Item] = []
    began = time.monotonic()
    source.run(items.append, threading.Event())
    assert len(of(Tick, items)) == 1199
    assert 600 / 2000 <= time.monotonic() - began < 3000 / 2000


def test_frames_without_a_face_are_delivered_as_such(tmp_path: Path) -> None:
    """A row of NaN becomes a FaceSample of NaN, not silence."""
    lost = face()
    lost.x[:, 10:20] = np.nan
    samples = of(FaceSample, replayed(record(tmp_path, eeg(), lost)))
    assert [bool(np.isnan(sample.landmarks).all()) for sample in samples] == [10 <= i < 20 for i in range(50)]
    assert samples[15].quality == 0


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        (face(extractor="openface-2"), "openface-2"),
        (face(extractor=""), ""),
        (face(ch_names=tuple(f"AU{i:02d}_r" for i in range(17)), type="AU", name="expressions"), ""),
        (face(ch_names=("a", "b"), type="Landmarks", name="WebcamFace", extractor="mine"), "mine"),
    ],
)
def test_a_face_of_another_extractor_is_announced_and_not_used(tmp_path: Path, stream: Recorded, said: str) -> None:
    """Its samples do not come, its extractor is named, and a sentence says why."""
    source = ReplaySource(record(tmp_path, eeg(), stream))
    items = list(source.items())
    assert [(info.kind, info.extractor) for info in of(StreamInfo, items)] == [("eeg", ""), ("face", said)]
    assert not of(FaceSample, items)
    assert any("another extractor" in warning for warning in source.warnings)


def test_another_extractor_can_be_asked_for(tmp_path: Path) -> None:
    """A model that learnt from another extractor gets that extractor's numbers."""
    path = record(tmp_path, eeg(), face(extractor="clmer-face-2"))
    assert len(of(FaceSample, replayed(path, extractor="clmer-face-2"))) == 50


def test_muse_labels_are_no_face(tmp_path: Path) -> None:
    """AUX is not an action unit."""
    source = ReplaySource(record(tmp_path, eeg(), eeg(ch_names=("AUX_LEFT", "AUX_RIGHT"), type="Aux", name="aux")))
    assert [info.source for info in source.infos] == ["eeg"]


def test_face_without_eeg_and_eeg_without_face_are_fine(tmp_path: Path) -> None:
    """One of the two is enough."""
    assert len(of(FaceSample, replayed(record(tmp_path, face())))) == 50
    assert of(Chunk, replayed(record(tmp_path, eeg(type="eeg"))))


def test_the_eeg_that_the_model_can_use_is_chosen(tmp_path: Path) -> None:
    """Of three streams of type EEG: not the one without samples, not the one of muscles."""
    empty = eeg(np.empty(0), name="empty EEG")
    muscles = eeg(ch_names=("left", "right"), name="EMG-EEG")
    source = ReplaySource(record(tmp_path, empty, muscles, eeg()))
    assert source.infos[0].name == "EPOC-EEG"
    assert any("EEG is EPOC-EEG" in text and "not used: EMG-EEG" in text for text in source.warnings)


def test_of_two_streams_that_fit_one_has_to_be_chosen(tmp_path: Path) -> None:
    """Without a choice both are listed, and how to choose; with one it is said which was taken, and which was not."""
    path = record(tmp_path, eeg(name="P1"), eeg(name="P2"))
    with pytest.raises(StreamError, match=r"2: P1 .*; P2 ") as caught:
        ReplaySource(path)
    assert caught.value.mend == "say which by its name: --eeg P1 or --eeg P2"
    for query, name, other in (("P1", "P1", "P2"), ("name=P2, type=eeg", "P2", "P1"), ("stream_id=2", "P2", "P1")):
        source = ReplaySource(path, eeg=EegChoice(query))
        assert source.infos[0].name == name
        (warning,) = (text for text in source.warnings if text.startswith("EEG is"))
        assert warning.startswith(f"EEG is {name} (")
        assert f"not used: {other} (" in warning


def test_two_streams_of_one_name_are_told_apart_by_their_number(tmp_path: Path) -> None:
    """Two headsets that are alike in all else: both can be reached."""
    path = record(tmp_path, eeg(name="EPOC"), eeg(name="EPOC"))
    with pytest.raises(StreamError) as caught:
        ReplaySource(path)
    assert caught.value.mend == "say which: --eeg stream_id=1 or --eeg stream_id=2"
    assert ReplaySource(path, eeg=EegChoice("stream_id=2")).infos[0].name == "EPOC"


def test_a_stream_that_was_started_again_is_one(tmp_path: Path) -> None:
    """Two streams alike, one behind the other: every sample comes, the gap is said, and each part can be had alone."""
    parts = [eeg(T0 + 10.0 + np.arange(256) / 128, name="EPOC"), eeg(name="EPOC")]
    path = record(tmp_path, *parts, eeg(name="other"))
    source = ReplaySource(path, eeg=EegChoice("EPOC"))
    chunks = of(Chunk, source.items())
    assert np.array_equal(np.concatenate([c.t for c in chunks]), np.concatenate([parts[1].t, parts[0].t]))
    assert np.array_equal(
        np.concatenate([c.x for c in chunks], axis=1), np.concatenate([parts[1].x, parts[0].x], axis=1)
    )
    joined, unused = (text for text in source.warnings if text.startswith("EEG is"))
    assert "2 streams (stream_id 2, 1) are joined, with 8.0 s between them" in joined
    assert "not used: other" in unused
    second = ReplaySource(path, eeg=EegChoice("stream_id=1"))
    assert sum(chunk.t.size for chunk in of(Chunk, second.items())) == 256


def test_streams_at_the_same_time_or_with_other_channels_are_not_joined(tmp_path: Path) -> None:
    """They are two headsets, or a headset that was changed."""
    later = T0 + 10.0 + np.arange(256) / 128
    for other in (eeg(later - 9.0, name="EPOC"), eeg(later, name="EPOC", ch_names=EPOC_CH_NAMES[::-1])):
        with pytest.raises(StreamError, match="2: EPOC"):
            ReplaySource(record(tmp_path, eeg(name="EPOC"), other))


def test_a_name_with_spaces_is_shown_as_a_shell_takes_it(tmp_path: Path) -> None:
    """So that the words of the message can be copied."""
    with pytest.raises(StreamError) as caught:
        ReplaySource(record(tmp_path, eeg(name="Epoc X (1)"), eeg(name="two")))
    assert "--eeg 'Epoc X (1)' or --eeg two" in caught.value.mend


def test_a_choice_that_is_not_in_the_recording_is_refused_with_what_is_there(tmp_path: Path) -> None:
    """A wrong name, a predicate that only the network knows, and a stream of text that was asked for by name."""
    path = record(tmp_path, eeg(name="EPOC"), markers([T0], ["go"], name="Markers"))
    with pytest.raises(StreamError, match="an EEG stream 'EPIC'") as caught:
        ReplaySource(path, eeg=EegChoice("EPIC"))
    assert "EPOC (stream_id 1, type EEG" in caught.value.found
    with pytest.raises(SettingsError, match="XPath"):
        ReplaySource(path, eeg=EegChoice("starts-with(name,'E')"))
    with pytest.raises(StreamError, match="a stream of text"):
        ReplaySource(path, eeg=EegChoice("Markers"))


def test_channels_without_labels_need_a_map(tmp_path: Path) -> None:
    """The refusal says what was found and how a map looks; with the map the channels have names."""
    path = record(tmp_path, eeg(ch_names=("",) * 16))
    with pytest.raises(StreamError, match="16 channels, 128 Hz, no labels") as caught:
        ReplaySource(path)
    assert "--eeg-map AF3=1" in caught.value.mend
    eeg_map = ",".join(f"{name}={i + 1}" for i, name in enumerate(EPOC_CH_NAMES))
    assert ReplaySource(path, eeg=EegChoice(eeg_map=eeg_map)).infos[0].ch_names == ("", *EPOC_CH_NAMES, "")
    with pytest.raises(StreamError):
        ReplaySource(path, eeg=EegChoice(eeg_map="AF3=99"))


def test_eeg_without_a_rate_is_measured(tmp_path: Path) -> None:
    """A nominal rate of 0 says nothing; eight seconds of stamps tell 128 Hz, and windows come of them."""
    preprocessor = Preprocessor(PreprocessConfig())
    path = record(tmp_path, eeg(T0 + np.arange(1024) / 128, sfreq=0.0))
    windows = [window for item in replayed(path) for window in preprocessor.push(item)]
    assert windows[-1].t_end == T0 + 7.5
    assert preprocessor.statuses()[0].reason.startswith("declares no rate, runs at 128 Hz")


def test_a_recording_without_usable_samples_is_refused(tmp_path: Path) -> None:
    """Markers and an empty EEG stream are nothing to replay; the error lists what is there."""
    path = record(tmp_path, eeg(np.empty(0)), markers([T0], ["go"]))
    with pytest.raises(RecordingError, match="'EPOC-EEG' \\(EEG, 14 channels, 0 samples\\)") as caught:
        ReplaySource(path)
    assert str(path) in caught.value.found


def test_several_marker_streams_are_one(tmp_path: Path) -> None:
    """Two string streams with 'marker' in their type come merged by stamp; other string streams do not come."""
    path = record(
        tmp_path,
        eeg(),
        markers([T0 + 0.2, T0 + 0.6], ["a", "c"]),
        markers([T0 + 0.4], ["b"], name="Keys", kind="StringMarker"),
        markers([T0 + 0.5], ["x"], name="log", kind="control"),
    )
    assert [(m.id, m.label) for m in of(Marker, replayed(path))] == [("1", "a"), ("2", "b"), ("3", "c")]


@pytest.mark.parametrize("channel_format", ["int32", "float32"])
def test_numbers_are_markers_too(tmp_path: Path, channel_format: ChannelFormat) -> None:
    """Codes of a numeric stream of type Markers are labels and values; a channel beside them is a field."""
    codes = Recorded(
        XdfStreamSpec("Codes", "Markers", ("code", "block"), channel_format=channel_format),
        T0 + np.array([0.2, 0.6]),
        np.array([[7, -1], [1, 2]]),
    )
    path = record(tmp_path, eeg(), codes, markers([T0 + 0.4], ["12"]))
    assert of(Marker, replayed(path)) == [
        Marker(T0 + 0.2, "1", "7", 7.0, "markers", ("7", "1")),
        Marker(T0 + 0.4, "2", "12", 12.0, "markers"),
        Marker(T0 + 0.6, "3", "-1", -1.0, "markers", ("-1", "2")),
    ]


def test_psychopys_second_channel_is_the_value(tmp_path: Path) -> None:
    """MarkerTime, MarkerValue, CurrentTime: the value is the second, named or not."""
    for names in (("MarkerTime", "MarkerValue", "CurrentTime"), ("", "", "")):
        spec = XdfStreamSpec("PsychoPy", "Markers", names, channel_format="double64")
        path = record(tmp_path, eeg(), Recorded(spec, np.array([T0]), np.array([[1.7e9], [5.0], [1.7e9 + 0.5]])))
        (marker,) = of(Marker, replayed(path))
        assert (marker.label, marker.value, marker.fields) == ("5", 5.0, ("1700000000", "5", "1700000000.5"))
        assert marker.t == T0 - 0.5  # it had happened before it was sent


def test_a_trigger_line_gives_a_marker_where_it_changes(tmp_path: Path) -> None:
    """At a regular rate, 0 is rest and a value that stays is one marker; a line at rest throughout is no stream."""
    line = np.array([[0.0, 0, 3, 3, 3, 0, 4, 5, 5, 0]])
    t = T0 + np.arange(10) / 10
    spec = XdfStreamSpec("Line", "Markers", ("line",), sfreq=10.0)
    events = of(Marker, replayed(record(tmp_path, eeg(), Recorded(spec, t, line))))
    assert [(marker.t, marker.value) for marker in events] == [(t[2], 3.0), (t[6], 4.0), (t[7], 5.0)]
    assert len(ReplaySource(record(tmp_path, eeg(), Recorded(spec, t, 0 * line))).infos) == 1


def test_words_at_a_regular_rate_and_in_two_channels_are_markers(tmp_path: Path) -> None:
    """A declared rate changes nothing about strings; both channels are fields, and the label joins them."""
    spec = XdfStreamSpec("Words", "StringMarker", ("a", "b"), sfreq=1000.0, channel_format="string")
    path = record(tmp_path, eeg(), Recorded(spec, np.array([T0 + 0.5]), np.array([["left", "go"]], dtype=object)))
    assert of(Marker, replayed(path)) == [Marker(T0 + 0.5, "1", "left go", None, "markers", ("left", "go"))]


def test_a_loop_goes_on_where_the_recording_ends(tmp_path: Path) -> None:
    """Each lap begins with a gap, one EEG period behind the last sample; values repeat and stamps go on."""
    path = record(tmp_path, eeg(), face(), markers([T0 + 1.0], ["go"]))
    once = replayed(path)[3:]
    items = list(itertools.islice(ReplaySource(path, loop=True).items(), 3 + 3 * len(once) + 2 * 3))[3:]
    laps = [items[i * (len(once) + 3) :][: len(once)] for i in range(3)]
    gaps = of(Gap, items)
    assert [(gap.source, gap.reason) for gap in gaps[:3]] == [
        ("eeg", "replay_loop"),
        ("face", "replay_loop"),
        ("markers", "replay_loop"),
    ]
    assert gaps[0].t1 - gaps[0].t0 == pytest.approx(1 / 128)
    for lap, lap_items in enumerate(laps):
        for first, again in zip(once, lap_items, strict=True):
            assert type(first) is type(again)
            assert due(again) == pytest.approx(due(first) + 2.0 * lap)
    assert [marker.id for marker in of(Marker, items)] == ["1", "2", "3"]
    stamps = np.concatenate([chunk.t for chunk in of(Chunk, items)])
    assert np.allclose(np.diff(stamps), 1 / 128)


def test_duration_is_from_the_first_to_the_last_sample(tmp_path: Path) -> None:
    """The streams that are delivered count, markers too."""
    assert ReplaySource(record(tmp_path, eeg(), markers([T0 + 9.0], ["end"]))).duration_s == 9.0


def test_full_speed_delivers_what_items_yields(tmp_path: Path) -> None:
    """Running is nothing but the items, one by one."""
    path = record(tmp_path, eeg(), face(), markers([T0 + 1.0], ["go"]))
    items: list[Item] = []
    ReplaySource(path, speed=math.inf).run(items.append, threading.Event())
    expected = replayed(path)
    assert [type(item) for item in items] == [type(item) for item in expected]
    assert [due(item) for item in items[3:]] == [due(item) for item in expected[3:]]


def test_speed_holds_items_back_until_they_are_due(tmp_path: Path) -> None:
    """At ten times real time no item of a two-second recording comes before its time."""
    arrivals: list[tuple[float, Item]] = []
    began = time.monotonic()
    source = ReplaySource(record(tmp_path, eeg(), face()), speed=10.0)
    source.run(lambda item: arrivals.append((time.monotonic() - began, item)), threading.Event())
    for after_s, item in arrivals[2:]:
        assert after_s >= (due(item) - T0) / 10.0 - 1e-6


def test_a_stop_ends_a_waiting_replay_at_once(tmp_path: Path) -> None:
    """A replay that would wait for hours returns when it is told to."""
    stop, first = threading.Event(), threading.Event()
    source = ReplaySource(record(tmp_path, eeg()), speed=1e-4)
    thread = threading.Thread(target=source.run, args=(lambda _: first.set(), stop))
    thread.start()
    assert first.wait(10)
    stop.set()
    thread.join(10)
    assert not thread.is_alive()


def test_a_stop_ends_a_replay_at_full_speed(tmp_path: Path) -> None:
    """An endless loop at full speed ends behind the item in which it was stopped."""
    stop = threading.Event()
    items: list[Item] = []

    def put(item: Item) -> None:
        items.append(item)
        if len(items) == 5000:
            stop.set()

    ReplaySource(record(tmp_path, eeg()), speed=math.inf, loop=True).run(put, stop)
    assert len(items) == 5000


@pytest.mark.parametrize("speed", [0.0, -1.0, math.nan])
def test_a_speed_that_is_none_is_refused(tmp_path: Path, speed: float) -> None:
    """Nothing can be replayed at speed 0."""
    with pytest.raises(SettingsError, match="above 0"):
        ReplaySource(record(tmp_path, eeg()), speed=speed)


def test_ten_minutes_are_read_and_merged_in_seconds(tmp_path: Path) -> None:
    """EEG and face of 600 s are through in less than 10 s (measured: 0.6 s to open, 0.25 s for the items)."""
    path = record(tmp_path, eeg(T0 + np.arange(600 * 128) / 128), face(T0 + np.arange(600 * 30) / 30, sfreq=30.0))
    began = time.monotonic()
    assert len(of(FaceSample, replayed(path))) == 18000
    assert time.monotonic() - began < 10.0


EPOC_MAP = ",".join(f"{name}={i + 1}" for i, name in enumerate(EPOC_CH_NAMES))
HALF_MAP = ",".join(f"{name}={i}" for i, name in enumerate(EPOC_CH_NAMES[:8]))


@pytest.mark.parametrize(
    ("name", "eeg_map"),
    [
        ("real16_openbci_125Hz_counter.xdf", f"COUNTER=0,{EPOC_MAP}"),
        ("real16_truncated_midchunk_nofooter.xdf", EPOC_MAP),
        ("real8_openbci_250Hz_markers_otherhost.xdf", HALF_MAP),
        ("clock_resets.xdf", HALF_MAP),
        ("synthetic/emotivlike_2hosts.xdf", None),
        ("synthetic/emotivlike_killed.xdf", None),
        ("synthetic/corrupt_400B_in_middle.xdf", None),
    ],
)
def test_real_recordings_become_windows(sample_data: Path, name: str, eeg_map: str | None) -> None:
    """Every EEG sample of the file is delivered in order, and the signal path makes windows with EEG of them."""
    path = sample_data / "xdf" / name
    source = ReplaySource(path, eeg=EegChoice(eeg_map=eeg_map))
    items = list(source.items())
    stream = next(s for s in read_xdf(path).streams if s.name == source.infos[0].name)
    assert np.array_equal(np.concatenate([chunk.x for chunk in of(Chunk, items)], axis=1), stream.x, equal_nan=True)
    assert np.array_equal(np.concatenate([chunk.t for chunk in of(Chunk, items)]), stream.t_synced)
    preprocessor = Preprocessor(PreprocessConfig())
    windows = [window for item in items for window in preprocessor.push(item)]
    assert len(windows) >= source.duration_s / 0.5 - 4
    # What clock_resets.xdf calls EEG is noise between 0 and 1, which is flat in microvolts.
    assert any(window.mask["eeg"].any() for window in windows) is (name != "clock_resets.xdf")


@pytest.mark.parametrize(
    "name",
    [
        "minimal.xdf",
        "empty_streams.xdf",
        "eeg_header_no_samples.xdf",
        "twochannel_string_marker.xdf",
        "muse_5ch_256Hz_4streams_P001.xdf",
        "synthetic/empty.xdf",
        "synthetic/magic_only.xdf",
    ],
)
def test_recordings_that_cannot_be_used_are_refused_with_a_cure(sample_data: Path, name: str) -> None:
    """The error says what was expected, what was found and what to do."""
    with pytest.raises(ClmerError) as caught:
        ReplaySource(sample_data / "xdf" / name)
    assert caught.value.expected
    assert caught.value.found
    assert caught.value.mend
