"""Windows in, predictions out, through the exported file."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from clmer_model.artifact import ArtifactFile, find_artifact
from clmer_model.conformal import ConformalSets
from clmer_model.export import export
from clmer_model.predictor import Predictor, choose_device, normalized_entropy
from clmer_streaming.errors import ArtifactError, DeviceError
from clmer_streaming.types import Reason, Window
from tests.support.model_windows import SUBSETS, make_window, small_checkpoint


@pytest.fixture(scope="module")
def artifact(small_artifact: ArtifactFile) -> ArtifactFile:
    """A small exported model."""
    return small_artifact


@pytest.fixture(scope="module")
def predictor(artifact: ArtifactFile) -> Predictor:
    """That model on the CPU."""
    return Predictor(artifact, "cpu")


def test_a_window_gives_a_distribution(predictor: Predictor) -> None:
    """Probabilities sum to one, the label is the most probable, and derived values follow from them."""
    (answer,) = predictor.predict([make_window()])
    assert answer.valid
    assert answer.probs is not None
    assert list(answer.probs) == ["LVLA", "LVHA", "HVLA", "HVHA"]
    assert sum(answer.probs.values()) == pytest.approx(1.0)
    assert answer.label == max(answer.probs, key=answer.probs.__getitem__)
    assert answer.confidence == max(answer.probs.values())
    assert answer.valence == pytest.approx(answer.probs["HVLA"] + answer.probs["HVHA"])
    assert answer.arousal == pytest.approx(answer.probs["LVHA"] + answer.probs["HVHA"])
    assert answer.entropy == pytest.approx(normalized_entropy(list(answer.probs.values())))
    assert answer.used == ("eeg", "landmarks", "aus")
    assert answer.reasons == ()
    assert answer.batch == 1
    assert answer.model_s > 0


def test_the_file_answers_as_the_module_does(predictor: Predictor) -> None:
    """Export, load, freeze and predict give the module's softmax within 1e-6."""
    window = make_window(3)
    model = small_checkpoint().model
    x = {name: torch.from_numpy(series[None].astype(np.float32)) for name, series in window.series.items()}
    mask = {name: torch.from_numpy(known[None]) for name, known in window.mask.items()}
    with torch.no_grad():
        expected = model(x, mask).softmax(1)[0].tolist()
    (answer,) = predictor.predict([window])
    assert answer.probs is not None
    assert list(answer.probs.values()) == pytest.approx(expected, abs=1e-6)


def test_a_batch_answers_as_single_windows_do(predictor: Predictor) -> None:
    """Eight windows together and one by one agree within 1e-6."""
    windows = [make_window(seed, SUBSETS[seed % 7]) for seed in range(8)]
    together = predictor.predict(windows)
    for window, answer in zip(windows, together, strict=True):
        (alone,) = predictor.predict([window])
        assert answer.batch == 8
        assert alone.probs is not None and answer.probs is not None
        assert list(alone.probs.values()) == pytest.approx(list(answer.probs.values()), abs=1e-6)


@pytest.mark.parametrize("subset", SUBSETS, ids="+".join)
def test_missing_modalities_are_said(predictor: Predictor, subset: tuple[str, ...]) -> None:
    """With some modalities the answer is valid and says which were used; a fallback is a warning."""
    (answer,) = predictor.predict([make_window(1, subset)])
    assert answer.valid
    assert answer.used == subset
    assert (Reason.MODALITY_FALLBACK in answer.reasons) == (len(subset) < 3)


def test_nothing_measured_gives_no_answer(predictor: Predictor) -> None:
    """Without any modality there are no values, the window's reasons stay, and neighbours are answered."""
    empty = make_window(0, (), reasons=(Reason.EEG_MISSING, Reason.FACE_MISSING))
    before, answer, after = predictor.predict([make_window(1), empty, make_window(2)])
    assert before.valid and after.valid
    assert not answer.valid
    assert answer.probs is None and answer.label is None and answer.confidence is None
    assert answer.valence is None and answer.arousal is None and answer.entropy is None
    assert answer.reasons == (Reason.EEG_MISSING, Reason.FACE_MISSING)
    assert answer.batch == 0
    assert before.batch == 2


def test_no_windows_no_predictions(predictor: Predictor) -> None:
    """An empty list is answered by an empty list."""
    assert predictor.predict([]) == []


def test_numbers_that_are_not_finite_are_a_model_error(predictor: Predictor) -> None:
    """NaN that claims to be measured gives no values but a reason, after the window's own."""
    window = make_window(0, reasons=(Reason.EEG_NOISY,))
    window.series["aus"][:] = math.nan
    (answer,) = predictor.predict([window])
    assert not answer.valid
    assert answer.probs is None
    assert answer.reasons == (Reason.EEG_NOISY, Reason.MODEL_ERROR)


def test_a_window_of_other_settings_is_refused(predictor: Predictor) -> None:
    """A window of one second cannot be fed to a model of two."""
    window = make_window()
    short = dataclasses.replace(window, series={**window.series, "eeg": np.zeros((14, 128))})
    with pytest.raises(ArtifactError, match=r"\(14, 128\)"):
        predictor.predict([short])


def test_warming_up_changes_nothing(predictor: Predictor) -> None:
    """The answer after warm-up is the answer before, within 1e-6."""
    window: Window = make_window(5)
    (before,) = predictor.predict([window])
    predictor.warm_up()
    (after,) = predictor.predict([window])
    assert before.probs is not None and after.probs is not None
    assert list(before.probs.values()) == pytest.approx(list(after.probs.values()), abs=1e-6)


def careful(artifact: ArtifactFile, threshold: float) -> Predictor:
    """Return the model with a threshold."""
    return Predictor(dataclasses.replace(artifact, meta=dataclasses.replace(artifact.meta, abstain_below=threshold)))


def test_a_model_that_is_not_sure_gives_no_label(artifact: ArtifactFile, predictor: Predictor) -> None:
    """Below the threshold the label is missing, with a reason; the answer stays valid, with all its numbers."""
    window = make_window(3, ("eeg",), reasons=(Reason.EEG_NOISY,))
    (told,) = predictor.predict([window])
    assert told.confidence is not None and told.label is not None
    (unsure,) = careful(artifact, told.confidence + 1e-3).predict([window])
    assert unsure.label is None
    assert unsure.reasons == (Reason.EEG_NOISY, Reason.MODALITY_FALLBACK, Reason.LOW_CONFIDENCE)
    assert dataclasses.replace(unsure, label=told.label, reasons=told.reasons, model_s=told.model_s) == told
    (sure,) = careful(artifact, told.confidence - 1e-3).predict([window])
    assert (sure.label, sure.reasons) == (told.label, told.reasons)


def test_a_model_abstains_window_by_window(artifact: ArtifactFile, predictor: Predictor) -> None:
    """Within one batch, those windows and no others have no label whose confidence is below the threshold."""
    windows = [make_window(seed) for seed in range(6)]
    confidences = [answer.confidence or 0.0 for answer in predictor.predict(windows)]
    threshold = float(np.median(confidences))
    labels = [answer.label for answer in careful(artifact, threshold).predict(windows)]
    assert [label is None for label in labels] == [confidence < threshold for confidence in confidences]
    assert None in labels and set(labels) != {None}


def test_a_model_with_thresholds_names_the_classes_that_it_does_not_exclude(tmp_path: Path) -> None:
    """The sets travel in the file; what the window had decides the threshold; without any values there is no set."""
    sets = ConformalSets(0.9, "people", 12, {"all": 0.75, "eeg": 1.0, "face": 0.0})
    path = tmp_path / "sets.ts"
    export(dataclasses.replace(small_checkpoint(), conformal=sets), path)
    predictor = Predictor(find_artifact(str(path)), "cpu")
    assert predictor.meta.conformal == sets
    whole, eeg, face, nothing = predictor.predict(
        [make_window(1), make_window(1, ("eeg",)), make_window(1, ("landmarks", "aus")), make_window(1, ())]
    )
    assert whole.probs is not None
    ordered = sorted(whole.probs, key=lambda label: -whole.probs[label] if whole.probs else 0.0)
    assert whole.prediction_set == tuple(k for n, k in enumerate(ordered) if n == 0 or whole.probs[k] >= 0.25)
    assert (len(eeg.prediction_set or ()), len(face.prediction_set or ())) == (4, 1)
    assert (nothing.prediction_set, nothing.coverage, whole.coverage) == (None, None, 0.9)


def test_a_model_without_thresholds_has_no_sets(predictor: Predictor) -> None:
    (found,) = predictor.predict([make_window(1)])
    assert (found.prediction_set, found.coverage) == (None, None)


def test_nothing_measured_is_not_low_confidence(artifact: ArtifactFile) -> None:
    """Without a window's values there is no confidence to be low."""
    (answer,) = careful(artifact, 0.99).predict([make_window(0, (), reasons=(Reason.EEG_MISSING,))])
    assert answer.reasons == (Reason.EEG_MISSING,)


def test_a_model_that_computes_something_else_is_refused(artifact: ArtifactFile) -> None:
    """At load the reference input must give the reference output."""
    reference = dataclasses.replace(artifact.meta.reference, logits=artifact.meta.reference.logits + 0.01)
    wrong = dataclasses.replace(artifact, meta=dataclasses.replace(artifact.meta, reference=reference))
    with pytest.raises(ArtifactError, match="reference output"):
        Predictor(wrong, "cpu")


def test_a_zip_that_is_no_torchscript_is_refused(artifact: ArtifactFile, tmp_path: Path) -> None:
    """A file that torch cannot load ends in an error of ours."""
    path = tmp_path / "cut.ts"
    path.write_bytes(artifact.path.read_bytes()[:1000])
    import hashlib

    cut = dataclasses.replace(artifact, path=path, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(ArtifactError, match="TorchScript module"):
        Predictor(cut, "cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "", "CPU"])
def test_unknown_devices_are_refused(name: str) -> None:
    """A device is auto, cpu, cuda or cuda:N."""
    with pytest.raises(DeviceError, match="cuda:N"):
        choose_device(name)


def test_auto_takes_a_gpu_only_if_there_is_one() -> None:
    """Auto is the first CUDA device where there is one, else the CPU."""
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_an_absent_gpu_is_refused_at_once(artifact: ArtifactFile) -> None:
    """Asking for one CUDA device more than there are says how many there are."""
    n = torch.cuda.device_count()
    with pytest.raises(DeviceError, match=f"{n} CUDA devices"):
        Predictor(artifact, f"cuda:{n}")


@pytest.mark.gpu
def test_a_gpu_answers_as_the_cpu_does(artifact: ArtifactFile, predictor: Predictor) -> None:
    """On CUDA probabilities agree with the CPU within 1e-4."""
    window = make_window(2)
    (cpu,), (gpu,) = predictor.predict([window]), Predictor(artifact, "cuda").predict([window])
    assert cpu.probs is not None and gpu.probs is not None
    assert list(gpu.probs.values()) == pytest.approx(list(cpu.probs.values()), abs=1e-4)


def test_entropy_is_a_share_of_the_greatest() -> None:
    """Certainty is 0, an even distribution is 1."""
    assert normalized_entropy([1.0, 0.0, 0.0, 0.0]) == 0.0
    assert normalized_entropy([0.25] * 4) == pytest.approx(1.0)
