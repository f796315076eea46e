"""Models as ONNX files: the same metadata, the same checks, the same answers by ONNX Runtime."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clmer_model.artifact import ArtifactFile, Manifest, find_artifact, properties
from clmer_model.export import export
from clmer_model.predictor import Predictor
from clmer_server.cli import main
from clmer_streaming.errors import ArtifactError, DeviceError
from clmer_streaming.types import Reason
from tests.support.model_windows import SUBSETS, make_window, small_checkpoint
from tests.support.paths import ROOT

pytestmark = pytest.mark.slow  # torch's exporter takes seconds


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model as ``small.onnx``, and as ``small.ts`` beside it."""
    folder = tmp_path_factory.mktemp("models")
    small_checkpoint().save(folder / "run")
    for name in ("small.ts", "small.onnx"):
        assert main(["export", str(folder / "run"), "--out", str(folder / name)]) == 0
    return folder / "small.onnx"


@pytest.fixture(scope="module")
def artifact(exported: Path) -> ArtifactFile:
    """The ONNX file, checked."""
    return find_artifact(str(exported))


@pytest.fixture(scope="module")
def predictor(artifact: ArtifactFile) -> Predictor:
    """The model by ONNX Runtime."""
    return Predictor(artifact)


def rewrite(exported: Path, path: Path, **changes: Any) -> None:
    """Write a copy whose clmer.json has other values, listed in a manifest beside it."""
    model = onnx.load_model_from_string(exported.read_bytes())
    (entry,) = model.metadata_props
    entry.value = json.dumps({**json.loads(entry.value), **changes})
    write(path, model.SerializeToString())


def write(path: Path, content: bytes) -> None:
    """Write a file and list it in a manifest beside it."""
    path.write_bytes(content)
    Manifest({path.name: hashlib.sha256(content).hexdigest()}).write(path.parent)


def test_both_files_say_the_same_of_themselves(exported: Path, artifact: ArtifactFile) -> None:
    """clmer.json does not depend on the form; both files stand in one manifest, each with its own hash."""
    torchscript = find_artifact(str(exported.with_suffix(".ts")))
    assert artifact.meta.to_json() == torchscript.meta.to_json()
    assert Manifest.read(exported.parent).sha256 == {"small": torchscript.sha256, "small.onnx": artifact.sha256}


def test_onnx_reads_the_file_and_finds_the_same_metadata(exported: Path) -> None:
    """The file passes ONNX's own checker, and our reader of its properties sees what the library sees."""
    model = onnx.load_model_from_string(exported.read_bytes())
    onnx.checker.check_model(model, full_check=True)
    (entry,) = model.metadata_props
    assert entry.key == "clmer.json"
    assert properties(exported.read_bytes(), "clmer.json") == [entry.value.encode()]
    assert [value.name for value in model.graph.input] == [
        "eeg", "landmarks", "aus", "eeg_mask", "landmarks_mask", "aus_mask",
    ]  # fmt: skip


def test_an_onnx_file_holds_no_path(exported: Path) -> None:
    """The exporter's records of source lines are left out."""
    content = exported.read_bytes()
    assert b".py" not in content
    assert str(ROOT).encode() not in content


def test_onnx_runtime_answers_as_torchscript_does(predictor: Predictor, exported: Path) -> None:
    """Every subset of modalities, alone and in a batch: probabilities agree within 1e-6."""
    torchscript = Predictor(find_artifact(str(exported.with_suffix(".ts"))), "cpu")
    windows = [make_window(seed, subset) for seed, subset in enumerate(SUBSETS)]
    together = predictor.predict(windows)
    for window, answer, expected in zip(windows, together, torchscript.predict(windows), strict=True):
        (alone,) = predictor.predict([window])
        assert answer.probs is not None and expected.probs is not None and alone.probs is not None
        assert list(answer.probs.values()) == pytest.approx(list(expected.probs.values()), abs=1e-6)
        assert list(alone.probs.values()) == pytest.approx(list(expected.probs.values()), abs=1e-6)
        assert (answer.used, answer.reasons, answer.batch) == (expected.used, expected.reasons, 7)


def test_numbers_that_are_not_finite_are_a_model_error_here_too(predictor: Predictor) -> None:
    """NaN that claims to be measured gives no values but a reason."""
    window = make_window(0)
    window.series["eeg"][3] = np.nan
    (answer,) = predictor.predict([window])
    assert answer.probs is None
    assert answer.reasons == (Reason.MODEL_ERROR,)


def test_clmer_predict_runs_an_onnx_file(exported: Path, tmp_path: Path) -> None:
    """The command takes NAME.onnx where it takes NAME.ts; events name the runner, and the answers agree."""
    session = tmp_path / "s.xdf"
    assert main(["simulate", "--out", str(session), "--seconds", "6"]) == 0
    events = {}
    for suffix in (".ts", ".onnx"):
        out = tmp_path / f"p{suffix}.jsonl"
        assert main(["predict", str(session), "--model", str(exported.with_suffix(suffix)), "--out", str(out)]) == 0
        events[suffix] = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert {event["runner"] for event in events[".ts"]} == {"torchscript"}
    assert {event["runner"] for event in events[".onnx"]} == {"onnxruntime"}
    valid = [(a, b) for a, b in zip(events[".ts"], events[".onnx"], strict=True) if a["valid"]]
    assert valid
    for a, b in valid:
        assert b["probs"] == pytest.approx(a["probs"], abs=1e-6)
        assert (b["t_end"], b["crc"], b["reasons"]) == (a["t_end"], a["crc"], a["reasons"])


def test_an_event_without_a_label_keeps_its_probabilities(exported: Path, tmp_path: Path) -> None:
    """After clmer export --abstain-below, clmer predict gives valid events, no label, low_confidence."""
    model, session, out = tmp_path / "careful.ts", tmp_path / "s.xdf", tmp_path / "p.jsonl"
    run = str(exported.parent / "run")
    assert main(["export", run, "--out", str(model), "--abstain-below", "0.99"]) == 0
    assert main(["simulate", "--out", str(session), "--seconds", "6"]) == 0
    assert main(["predict", str(session), "--model", str(model), "--out", str(out)]) == 0
    valid = [event for line in out.read_text(encoding="utf-8").splitlines() if (event := json.loads(line))["valid"]]
    assert valid
    for event in valid:
        assert event["label"] is None
        assert "low_confidence" in event["reasons"]
        assert sum(event["probs"].values()) == pytest.approx(1.0)
        assert event["confidence"] == max(event["probs"].values()) < 0.99


def test_a_gpu_is_refused_for_an_onnx_file(artifact: ArtifactFile, predictor: Predictor) -> None:
    """ONNX files run on the CPU: auto takes it, and cuda is told to take the other file."""
    assert str(predictor.device) == "cpu"
    for name in ("cuda", "cuda:1"):
        with pytest.raises(DeviceError, match=r"use the \.ts file"):
            Predictor(artifact, name)
    with pytest.raises(DeviceError, match="'gpu'"):
        Predictor(artifact, "gpu")


def test_an_unknown_hash_is_refused_unread(exported: Path, tmp_path: Path) -> None:
    """A file that no manifest lists is refused, whatever is in it."""
    path = tmp_path / "foreign.onnx"
    for content in (b"anything", exported.read_bytes() + b"\0"):
        path.write_bytes(content)
        with pytest.raises(ArtifactError, match="it was not opened"):
            find_artifact(str(path))


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"schema": 99}, "schema 99"),
        ({"labels": ["calm", "angry", "sad"]}, "reference input"),
        ({"labels": ["a", "b", "c", "d", "e", "f", "g", "h"]}, "reference input"),
        ({"modalities": []}, "differ"),
        ({"surprise": 1}, "unknown \\['surprise'\\]"),
    ],
)
def test_altered_metadata_is_refused(exported: Path, tmp_path: Path, changes: dict[str, Any], found: str) -> None:
    """clmer.json of another schema, label set or shape is refused before ONNX Runtime sees the file."""
    rewrite(exported, tmp_path / "altered.onnx", **changes)
    with pytest.raises(ArtifactError, match=found):
        find_artifact(str(tmp_path / "altered.onnx"))


def test_an_onnx_file_of_another_project_is_refused(exported: Path, tmp_path: Path) -> None:
    """Without clmer.json nobody knows what a model wants; with two, which one holds."""
    model = onnx.load_model_from_string(exported.read_bytes())
    (entry,) = model.metadata_props
    del model.metadata_props[:]
    for n in (0, 2):
        model.metadata_props.extend([entry] * n)
        write(tmp_path / "other.onnx", model.SerializeToString())
        with pytest.raises(ArtifactError, match=f"{n} of them"):
            find_artifact(str(tmp_path / "other.onnx"))


def test_a_model_that_computes_something_else_is_refused(artifact: ArtifactFile) -> None:
    """At load the reference input must give the reference output within 1e-5."""
    reference = dataclasses.replace(artifact.meta.reference, logits=artifact.meta.reference.logits + 3e-5)
    wrong = dataclasses.replace(artifact, meta=dataclasses.replace(artifact.meta, reference=reference))
    with pytest.raises(ArtifactError, match=r"(?s)within 1e-05.*ONNX Runtime"):
        Predictor(wrong)


def test_a_file_that_onnx_runtime_cannot_load_is_one_clear_line(artifact: ArtifactFile, tmp_path: Path) -> None:
    """A file cut off ends in an error of ours."""
    path = tmp_path / "cut.onnx"
    path.write_bytes(artifact.path.read_bytes()[:1000])
    cut = dataclasses.replace(artifact, path=path, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(ArtifactError, match=r"that ONNX Runtime .* loads"):
        Predictor(cut)


def test_a_file_cut_off_anywhere_is_refused_by_the_reader(exported: Path, tmp_path: Path) -> None:
    """Whatever is left of a trusted file: no metadata, or no ONNX file."""
    content = exported.read_bytes()
    for length in range(1, len(content), len(content) // 50):
        write(tmp_path / "cut.onnx", content[:length])
        with pytest.raises(ArtifactError):
            find_artifact(str(tmp_path / "cut.onnx"))


@given(st.binary(max_size=200))
def test_any_bytes_are_properties_or_no_onnx_file(content: bytes) -> None:
    """The reader of properties ends with values or a ValueError, for whatever it is given."""
    try:
        assert isinstance(properties(content, "clmer.json"), list)
    except ValueError as error:
        assert str(error)


def test_finding_an_onnx_model_needs_neither_torch_nor_onnx(exported: Path) -> None:
    """The check of a model file is over before anything could run it."""
    code = (
        "import sys; from clmer_model.artifact import find_artifact; find_artifact(sys.argv[1]); "
        "sys.exit(bool({'torch', 'onnx', 'onnxruntime'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code, str(exported)], check=False).returncode == 0


@pytest.mark.parametrize(
    ("missing", "words", "expected"),
    [
        ("onnxruntime", ["doctor", "--model", "{model}", "--device", "cpu"], "pip install onnxruntime"),
        ("onnxscript", ["export", "{run}", "--out", "{out}"], "pip install onnx onnxscript onnxruntime"),
    ],
)
def test_without_the_extra_one_line_says_what_to_install(
    *,
    exported: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    missing: str,
    words: list[str],
    expected: str,
) -> None:
    """The packages of the extra ``onnx`` are needed for ONNX files alone, and named where they are missing."""
    places = {"model": exported, "run": exported.parent / "run", "out": tmp_path / "x.onnx"}
    monkeypatch.setitem(sys.modules, missing, None)
    assert main([word.format(**places) for word in words]) != 0
    said = capsys.readouterr()
    assert expected in " ".join((said.out + said.err).split())
    assert "Traceback" not in said.err


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    """What a file is called says what is in it."""
    with pytest.raises(ArtifactError, match=r"\.ts or \.onnx"):
        export(small_checkpoint(), tmp_path / "small.pt")
