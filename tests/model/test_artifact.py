"""Model files: what is trusted, what is refused, and that nothing is opened before."""

from __future__ import annotations

import hashlib
import io
import json
import math
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from clmer_model.artifact import DEFAULT_MODEL, ArtifactFile, ArtifactMeta, Manifest, find_artifact, shipped_folder
from clmer_model.config import MODEL_MODALITIES
from clmer_model.export import export
from clmer_model.predictor import Predictor
from clmer_model.training.splits import PROTOCOLS
from clmer_streaming.config import PREPROCESSOR_ID, PreprocessConfig
from clmer_streaming.errors import ArtifactError
from clmer_streaming.face.layout import EXTRACTOR_ID
from tests.support.model_windows import small_checkpoint
from tests.support.paths import ROOT


@pytest.fixture
def exported(small_artifact: ArtifactFile) -> Path:
    """A small exported model with its manifest."""
    return small_artifact.path


def rewrite_meta(exported: Path, path: Path, **changes: Any) -> str:
    """Write a copy whose clmer.json has other values, listed in a manifest beside it; return its hash."""
    content = io.BytesIO()
    with zipfile.ZipFile(exported) as source, zipfile.ZipFile(content, "w") as target:
        for info in source.infolist():
            data = source.read(info)
            if info.filename.endswith("/extra/clmer.json"):
                plain = {**json.loads(data), **changes}
                data = json.dumps({key: value for key, value in plain.items() if value is not None}).encode()
            target.writestr(info.filename, data)
    path.write_bytes(content.getvalue())
    digest = hashlib.sha256(content.getvalue()).hexdigest()
    Manifest({path.stem: digest}).write(path.parent)
    return digest


def test_a_model_is_found_by_its_path(exported: Path) -> None:
    """A file whose hash stands in the manifest beside it is read, and says what it is."""
    artifact = find_artifact(str(exported))
    assert artifact.path == exported
    assert artifact.sha256 == hashlib.sha256(exported.read_bytes()).hexdigest()
    assert artifact.meta.name == "small"
    assert artifact.meta.labels == ("LVLA", "LVHA", "HVLA", "HVHA")
    assert artifact.meta.preprocess == PreprocessConfig(modalities=MODEL_MODALITIES)


def test_metadata_survives_json(exported: Path) -> None:
    """clmer.json is canonical: reading and writing gives the same text."""
    text = find_artifact(str(exported)).meta.to_json()
    assert ArtifactMeta.from_json(text).to_json() == text


def test_an_exported_file_holds_no_path(exported: Path) -> None:
    """TorchScript's debug records, which name the source files of the machine, are left out."""
    with zipfile.ZipFile(exported) as archive:
        assert not [name for name in archive.namelist() if name.endswith(".debug_pkl")]
        assert not any(str(ROOT).encode() in archive.read(info) for info in archive.infolist())


def test_exporting_again_overwrites_file_and_entry(tmp_path: Path) -> None:
    """A second export of a name replaces the first, and the manifest follows."""
    path = tmp_path / "small.ts"
    first = export(small_checkpoint(0), path)
    second = export(small_checkpoint(1), path)
    assert first != second
    assert Manifest.read(tmp_path).sha256 == {"small": second}
    assert find_artifact(str(path)).sha256 == second


def test_a_threshold_is_kept_and_its_absence_is_not_said(exported: Path, tmp_path: Path) -> None:
    """A model exported with --abstain-below says so; one without has no word of it, as older files have none."""
    path = tmp_path / "careful.ts"
    export(small_checkpoint(), path, abstain_below=0.4)
    meta = find_artifact(str(path)).meta
    assert meta.abstain_below == 0.4
    assert ArtifactMeta.from_json(meta.to_json()).to_json() == meta.to_json()
    assert find_artifact(str(exported)).meta.abstain_below is None
    assert "abstain_below" not in json.loads(find_artifact(str(exported)).meta.to_json())


@pytest.mark.parametrize("threshold", [0.0, 1.0, -0.5, math.nan])
def test_a_threshold_that_is_no_probability_is_refused(tmp_path: Path, threshold: float) -> None:
    """Nothing is written for a threshold of 0, which does nothing, or of 1, which no answer reaches."""
    with pytest.raises(ArtifactError, match="above 0 and below 1"):
        export(small_checkpoint(), tmp_path / "small.ts", threshold)
    assert list(tmp_path.iterdir()) == []


class Saboteur(torch.nn.Module):
    """A module whose file writes another file as soon as it is opened."""

    def __init__(self, target: str) -> None:
        super().__init__()
        self.target = target
        self.weight = torch.zeros(1)

    @torch.jit.export
    def __getstate__(self) -> tuple[str, torch.Tensor, bool]:
        return (self.target, self.weight, self.training)

    @torch.jit.export
    def __setstate__(self, state: tuple[str, torch.Tensor, bool]) -> None:
        self.target, self.weight, self.training = state
        torch.save(self.weight, self.target)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


@pytest.mark.parametrize("changes", [{}, {"schema": 99}, {"labels": ["calm", "angry", "sad"]}])
def test_a_file_that_runs_code_at_load_is_refused_unread(
    exported: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    """Torch runs what such a file holds; with a foreign hash, schema or label set it never gets the file."""
    trace, path = tmp_path / "trace", tmp_path / "saboteur.ts"
    meta = {**json.loads(find_artifact(str(exported)).meta.to_json()), **changes}
    torch.jit.save(torch.jit.script(Saboteur(str(trace))), path, _extra_files={"clmer.json": json.dumps(meta)})
    torch.jit.load(path)  # type: ignore[no-untyped-call]  # torch has no types here
    assert trace.exists()
    trace.unlink()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(ArtifactError, match="schema 99|reference input" if changes else "it was not opened"):
        Predictor(find_artifact(str(path), digest if changes else None))
    assert not trace.exists()


def test_an_unknown_hash_is_refused_unread(exported: Path, tmp_path: Path) -> None:
    """A file that no manifest lists is refused, even if it is not a model at all."""
    path = tmp_path / "foreign.ts"
    path.write_bytes(b"not even a zip")
    with pytest.raises(ArtifactError, match="it was not opened"):
        find_artifact(str(path))
    path.write_bytes(exported.read_bytes() + b"\0")
    with pytest.raises(ArtifactError, match="it was not opened"):
        find_artifact(str(path))


def test_a_given_hash_is_trusted_and_held_to(exported: Path, tmp_path: Path) -> None:
    """--model-sha256 opens a file without a manifest, and refuses one of another hash."""
    path = tmp_path / "mine.ts"
    path.write_bytes(exported.read_bytes())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert find_artifact(str(path), digest.upper()).sha256 == digest
    with pytest.raises(ArtifactError, match="0000"):
        find_artifact(str(exported), "0" * 64)
    with pytest.raises(ArtifactError, match="64 hex digits"):
        find_artifact(str(exported), "abc")


def test_a_file_that_is_no_zip_is_refused(tmp_path: Path) -> None:
    """A trusted hash does not make a model of any file."""
    path = tmp_path / "text.ts"
    path.write_bytes(b"hello")
    with pytest.raises(ArtifactError, match="a zip"):
        find_artifact(str(path), hashlib.sha256(b"hello").hexdigest())


def test_a_zip_without_metadata_is_refused(tmp_path: Path) -> None:
    """A TorchScript file of another project has no clmer.json."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("archive/code.py", "pass")
    path = tmp_path / "other.ts"
    path.write_bytes(content.getvalue())
    with pytest.raises(ArtifactError, match="0 of them"):
        find_artifact(str(path), hashlib.sha256(content.getvalue()).hexdigest())


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"schema": 99}, "schema 99"),
        ({"schema": None}, "schema None"),
        ({"labels": ["LVLA"]}, "LVLA"),
        ({"labels": ["LVLA", "LVLA"]}, "LVLA"),
        ({"labels": "LVLA"}, "str"),
        ({"labels": ["calm", "angry", "sad"]}, "reference input"),
        ({"labels": ["a", "b", "c", "d", "e", "f", "g", "h"]}, "reference input"),
        ({"abstain_below": 0.0}, "0.0"),
        ({"abstain_below": 1}, "1.0"),
        ({"abstain_below": math.nan}, "nan"),
        ({"abstain_below": "often"}, "often"),
        ({"temperature": -1.0}, "-1.0"),
        ({"temperature": "hot"}, "hot"),
        ({"split_scores": "good"}, "split_scores of type dict"),
        ({"scores": None}, "missing \\['scores'\\]"),
        ({"surprise": 1}, "unknown \\['surprise'\\]"),
        ({"modalities": []}, "differ"),
        ({"reference": {"x": {}, "mask": {}, "logits": [[0.0, 0.0, 0.0, 0.0]]}}, "eeg"),
        ({"dims": {"width": 64}}, "width"),
    ],
)
def test_altered_metadata_is_refused(exported: Path, tmp_path: Path, changes: dict[str, Any], found: str) -> None:
    """Every field of clmer.json is checked, and the error names what was found."""
    rewrite_meta(exported, tmp_path / "altered.ts", **changes)
    with pytest.raises(ArtifactError, match=found):
        find_artifact(str(tmp_path / "altered.ts"))


@pytest.mark.parametrize("field", ["preprocessor", "extractor"])
def test_another_signal_path_is_refused(exported: Path, tmp_path: Path, field: str) -> None:
    """A model of another preprocessor or face extractor must not be fed by this one."""
    other = {**PreprocessConfig(modalities=MODEL_MODALITIES).to_dict(), field: "clmer-other-0"}
    rewrite_meta(exported, tmp_path / "old.ts", preprocess=other)
    with pytest.raises(ArtifactError, match="clmer-other-0"):
        find_artifact(str(tmp_path / "old.ts"))


def test_a_model_of_a_user_s_own_face_extractor_is_taken(exported: Path, tmp_path: Path) -> None:
    """Trained on OpenFace's numbers or a FaceLandmarker's, it waits for these; others are refused frame by frame."""
    for extractor in ("openface-2.2", f"{EXTRACTOR_ID}-landmarker-0123abcd"):
        mine = {**PreprocessConfig(modalities=MODEL_MODALITIES).to_dict(), "extractor": extractor}
        rewrite_meta(exported, tmp_path / "mine.ts", preprocess=mine)
        assert find_artifact(str(tmp_path / "mine.ts")).meta.preprocess.extractor == extractor


def test_a_broken_manifest_is_named(exported: Path, tmp_path: Path) -> None:
    """A manifest that is not one is an error, not an empty list."""
    path = tmp_path / "small.ts"
    path.write_bytes(exported.read_bytes())
    for text in ("models = 3", "[models.small]\nsha256 = 'short'", "["):
        (tmp_path / "manifest.toml").write_text(text, encoding="utf-8")
        with pytest.raises(ArtifactError, match=r"manifest\.toml"):
            find_artifact(str(path))


def test_an_unknown_name_lists_the_known_ones() -> None:
    """The error for a misspelt name says which models ship."""
    with pytest.raises(ArtifactError, match=DEFAULT_MODEL):
        find_artifact("clmer-va5")
    with pytest.raises(ArtifactError, match="no-such"):
        find_artifact("no-such-folder/model.ts")


def test_a_file_that_changes_after_the_check_is_refused(exported: Path, tmp_path: Path) -> None:
    """What is opened is what was checked."""
    path = tmp_path / "small.ts"
    path.write_bytes(exported.read_bytes())
    artifact = find_artifact(str(path), hashlib.sha256(exported.read_bytes()).hexdigest())
    path.write_bytes(b"something else")
    with pytest.raises(ArtifactError, match="has changed"):
        artifact.read_bytes()


def test_finding_a_model_needs_no_torch(exported: Path) -> None:
    """The check of a model file is over before torch is imported."""
    code = (
        "import sys; from clmer_model.artifact import find_artifact; "
        "find_artifact(sys.argv[1]); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(exported)], check=False).returncode == 0


def test_the_shipped_model_fits_this_code() -> None:
    """The shipped default model is listed, within its size, and of this code's preprocessor and extractor."""
    artifact = find_artifact()
    assert artifact.path == shipped_folder() / f"{DEFAULT_MODEL}.ts"
    assert Manifest.read(shipped_folder()).sha256[DEFAULT_MODEL] == artifact.sha256
    assert artifact.path.stat().st_size < 6 * 2**20
    assert artifact.meta.preprocess.preprocessor == PREPROCESSOR_ID
    assert artifact.meta.preprocess.extractor == EXTRACTOR_ID
    assert artifact.meta.trained_on == "simulated"
    assert [spec.name for spec in artifact.meta.modalities] == ["eeg", "landmarks", "aus"]


def test_the_shipped_scores_are_honest_in_form() -> None:
    """Scores name their split and stand beside a baseline and an interval; the recipe has those of all four splits."""
    scores, split_scores = find_artifact().meta.scores, find_artifact().meta.split_scores
    assert split_scores is not None
    assert set(split_scores) == set(PROTOCOLS)
    assert list(scores) == ["unseen simulated people"]
    for subset in ("all", "eeg", "face"):
        values = scores["unseen simulated people"][subset]
        low, high = values["interval"]
        assert 0 <= low <= values["accuracy"] <= high <= 1
        assert 0 < values["majority"] < 1


def test_the_model_card_gives_the_scores_of_the_file() -> None:
    """Accuracy, interval and baseline of the card are those inside the shipped file."""
    artifact = find_artifact()
    card = (artifact.path.parent / "MODEL_CARD.md").read_text(encoding="utf-8")
    for values in artifact.meta.scores["unseen simulated people"].values():
        low, high = values["interval"]
        numbers = [f"{values[name]:.3f}" for name in ("balanced_accuracy", "macro_f1", "majority")]
        row = [f"{values['accuracy']:.3f}", f"{low:.3f}-{high:.3f}", *numbers]
        assert f"| {' | '.join(row)} |" in card
