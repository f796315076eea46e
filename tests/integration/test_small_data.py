"""One lab's own data on three devices: from recordings to a model that is served, by the commands of the manual.

A recording of muscles on a forearm (8 channels without labels), a Muse (4), and a cap by the old names of the 10-20
system (19), each with EEG alone and one or two people.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clmer_model.artifact import find_artifact
from clmer_model.data.montage import MUSE_CH_NAMES
from clmer_model.data.store import open_store
from clmer_server.cli import main
from clmer_streaming.types import FloatArray
from clmer_streaming.xdf.header import XdfStreamSpec
from clmer_streaming.xdf.reader import read_xdf
from clmer_streaming.xdf.writer import XdfWriter
from tests.integration.test_serve import lasting, messages_until, predictions
from tests.support.serving import serving
from tests.support.signals import eeg_like

OLD_NAMES = (
    "Fp1", "Fp2", "F7", "F3", "Fz", "F4", "F8", "T3", "C3", "Cz", "C4", "T4", "T5", "P3", "Pz", "P4", "T6", "O1", "O2",
)  # fmt: skip
"""The nineteen electrodes of the 10-20 system, by its first names."""


@dataclass(frozen=True)
class Lab:
    """A folder of recordings with their tables, and the options that make windows of it."""

    folder: Path
    options: tuple[str, ...]
    n_people: int

    @property
    def recording(self) -> Path:
        """One of the recordings."""
        return sorted(self.folder.glob("*.xdf"))[0]


def recorded(folder: Path, ch_names: Sequence[str], sfreq: float = 256.0) -> Lab:
    """Write two people who close their eyes in every other trial: alpha is twice as large then."""
    n_trials, trial_s = 12, 4.0
    times = np.arange(int((n_trials * (trial_s + 1) + 2) * sfreq)) / sfreq
    rows, manifest = ["file,start,stop,label,trial"], ["file,participant"]
    for person in range(2):
        x: FloatArray = eeg_like(times.size, len(ch_names), seed=person, sfreq=sfreq)
        starts = 1.0 + (trial_s + 1) * np.arange(n_trials)
        closed = np.zeros(times.size)
        for start in starts[::2]:
            closed[(times >= start) & (times < start + trial_s)] = 1.0
        size = np.linspace(5.0, 50.0, len(ch_names))  # uV; what is the same everywhere, the reference takes away
        x = x + np.outer(size, closed * np.sin(2 * np.pi * 10.0 * times))
        path = folder / f"P{person}.xdf"
        with XdfWriter(path) as xdf:
            eeg = xdf.add_stream(XdfStreamSpec("Cap", "EEG", tuple(ch_names), sfreq, units=("uV",) * len(ch_names)))
            words = xdf.add_stream(XdfStreamSpec("Markers", "Markers", ("label",), 0.0, channel_format="string"))
            xdf.write_samples(eeg, 100.0 + times, x.astype(np.float32))
            stamps = np.stack([starts, starts + trial_s], axis=1).ravel() + 100.0
            labels = [f"{'begin' if k % 2 == 0 else 'end'}{k // 2}" for k in range(2 * n_trials)]
            xdf.write_samples(words, stamps, np.array(labels, dtype=object))
        manifest.append(f"{path.name},P{person}")
        rows += [f"{path.name},begin{k},end{k},{('closed', 'open')[k % 2]},{k}" for k in range(n_trials)]
    (folder / "manifest.csv").write_text("\n".join(manifest) + "\n", encoding="utf-8")
    (folder / "trials.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return Lab(folder, ("--modalities", "eeg"), 2)


def forearm(folder: Path, sample_data: Path) -> Lab:
    """Copy the recording of four motions of a hand, and write its tables from its markers (``0s``, ``0e``, ...)."""
    path = folder / "motions.xdf"
    shutil.copyfile(sample_data / "xdf" / "hand_motion_4class_8ch_250Hz.xdf", path)
    (markers,) = (stream for stream in read_xdf(path).streams if stream.type == "Markers")
    began = [str(word[0])[0] for word in markers.strings or () if str(word[0]).endswith("s")]
    rows = [f"motions.xdf,{motion}s,{motion}e,motion{motion}" for motion in began]
    (folder / "trials.csv").write_text("\n".join(["file,start,stop,label", *rows]) + "\n", encoding="utf-8")
    (folder / "manifest.csv").write_text("file,participant\nmotions.xdf,P1\n", encoding="utf-8")
    return Lab(folder, ("--modalities", "eeg", "--window", "1", "--hop", "0.5"), 1)


@pytest.fixture(params=["forearm", "muse", "ten_twenty"])
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Lab:
    folder = tmp_path / "lab"
    folder.mkdir()
    if request.param == "forearm":
        return forearm(folder, request.getfixturevalue("sample_data"))
    return recorded(folder, MUSE_CH_NAMES if request.param == "muse" else OLD_NAMES)


def served(lab: Lab, model: Path, folder: Path) -> list[dict[str, Any]]:
    """Return the predictions that a client gets from a replay, and leave a recording of the session."""
    options = ("--replay", lab.recording, "--speed", "max", "--model", model, "--device", "cpu")
    with serving(folder, *options, "--record", folder / "kept") as service, service.connect() as client:
        found = predictions(messages_until(client, "notice", "replay_ended"))
        service.end()
    return found


def test_one_labs_recordings_become_a_model_that_is_served(
    lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Windows, an honest report, a model of EEG alone, its own replay served, and a recording that verifies."""
    windows, report, run, model = (tmp_path / name for name in ("windows", "report", "run", "own.ts"))
    assert (
        main(["prepare", "--dataset", "sessions", "--root", str(lab.folder), "--out", str(windows), *lab.options]) == 0
    )
    store = open_store(windows)
    n_channels = store.examples.series["eeg"].shape[1]
    assert (len(store.people), len(store.preprocess.signal.ch_names)) == (lab.n_people, n_channels)
    assert len(store.examples) > 40

    assert main(["evaluate", str(windows), "--out", str(report), "--preset", "baselines", "--folds", "4"]) == 0
    splits = json.loads((report / "report.json").read_text(encoding="utf-8"))["splits"]
    chance = 1.0 / len(store.labels)
    for name in ("lda", "logistic", "trees"):
        low, _ = splits["trial"]["baselines"][name]["all"]["interval"]["balanced_accuracy"]
        assert low > chance + 0.2
    assert (splits["people"]["reason"] == "") == (lab.n_people > 1)
    assert "over trials" in " ".join(capsys.readouterr().out.split())

    assert main(["train", "--store", str(windows), "--out", str(run), "--epochs", "2"]) == 0
    assert "fewer than five people" in " ".join(capsys.readouterr().out.split())
    assert main(["export", str(run), "--out", str(model)]) == 0
    meta = find_artifact(str(model)).meta
    assert [spec.name for spec in meta.modalities] == ["eeg"]
    assert meta.electrodes is not None
    known = [place is not None for place in meta.electrodes.values()]
    assert all(known) if lab.n_people > 1 else not any(known)

    events = served(lab, model, tmp_path)
    assert main(["predict", str(lab.recording), "--model", str(model), "--out", str(tmp_path / "offline.jsonl")]) == 0
    offline = [json.loads(line) for line in (tmp_path / "offline.jsonl").read_text(encoding="utf-8").splitlines()]
    by_seq = {event["seq"]: event for event in offline}
    assert sum(event["valid"] for event in events) > 50
    same = ("valid", "probs", "label", "window")
    for event in events:
        assert {name: event.get(name) for name in same} == {name: by_seq[event["seq"]].get(name) for name in same}
    (session,) = (tmp_path / "kept").iterdir()
    assert main(["verify", str(session), "--model", str(model)]) == 0
    assert lasting(events[0])["type"] == "prediction"


@pytest.mark.parametrize(("ch_names", "n_used"), [(MUSE_CH_NAMES, 4), (OLD_NAMES, 19), (("Fz", "Cz", "Pz"), 0)])
def test_the_shipped_model_takes_any_cap_with_four_of_its_electrodes(
    ch_names: Sequence[str], n_used: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A Muse and the 10-20 system are used as they are; of three electrodes it says which it would need."""
    lab = recorded(tmp_path, ch_names)
    code = main(["predict", str(lab.recording), "--out", str(tmp_path / "out.jsonl")])
    if not n_used:
        assert code != 0
        assert "at least 4 of the channels" in " ".join(capsys.readouterr().err.split())
        return
    assert code == 0
    events = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    valid = [event for event in events if event["valid"]]
    assert len(valid) > 50
    assert {event["modalities"]["eeg"]["channels_ok"] for event in valid} == {n_used}
    assert not any(event["modalities"]["eeg"]["channels_bad"] for event in valid)
    assert all(event["label"] in event["prediction_set"] for event in valid)
