"""Model card of the shipped weights: evidence gathered about a checkpoint, and the card written from it.

Run from the repository root, in this order, as ``scripts/weights`` does::

    python -m scripts.release evidence CHECKPOINT [--tenth]
    clmer export CHECKPOINT --out MODEL.ts
    python -m scripts.release card CHECKPOINT MODEL.ts CARD.md

``evidence`` trains the recipe anew for folds of four splits, with controls, and on people without effects; it leaves
``evidence.json`` and the ``report.json`` that ``clmer export`` reads. ``card`` measures the latency and writes the
card: every figure comes from the model file or was measured for it. Only models of simulated people have a card.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clmer_model.artifact import ArtifactMeta, find_artifact
from clmer_model.checkpoint import Checkpoint, load_checkpoint
from clmer_model.data.examples import Examples, concatenate
from clmer_model.data.simulated import PersonRecipe, examples_of_people
from clmer_model.data.store import WindowStore, digest, write_json
from clmer_model.network.clmer import Clmer
from clmer_model.predictor import Predictor
from clmer_model.training.augment import channels_alone
from clmer_model.training.compare import (
    NETWORK,
    REPORT_NAME,
    ROWS,
    Predictions,
    SplitPredictions,
    compare,
    make_report,
    summary,
)
from clmer_model.training.config import TrainConfig, recipe
from clmer_model.training.estimators import BASELINES, BaselineEstimator, Estimator, NetworkEstimator
from clmer_model.training.evaluate import evaluate, permutation_p
from clmer_model.training.splits import N_FOLDS, PROTOCOLS, SplitKind, draw_folds, groups_of
from clmer_model.training.train import SPLIT_NAME
from clmer_streaming.config import CAP36_CH_NAMES
from clmer_streaming.simulation.config import CAP_NAMES
from clmer_streaming.simulation.trials import QUADRANTS, STIMULI_PER_QUADRANT, plan_trials
from clmer_streaming.types import Window

EVIDENCE_NAME = "evidence.json"
"""File of the evidence, in the folder of the checkpoint."""


Plain = Mapping[str, Any]
Cells = Sequence[str]


Report = Callable[[str], None]
"""Called with a sentence for each result."""


def write_evidence(folder: Path, tenth: bool) -> None:
    """Gather the evidence on a checkpoint, and write it and the scores by four splits into its folder.

    Args:
        folder: What ``clmer train`` wrote, with the examples of its people.
        tenth: Measure with few people and one fold.
    """
    checkpoint = load_checkpoint(folder)
    config = EvidenceConfig(config_of(checkpoint), folder / "examples")
    config = dataclasses.replace(config, null_people=5, null_folds=1, cap_people=2) if tenth else config
    evidence = gather(config, checkpoint.model, lambda line: print(line, flush=True))
    write_json(folder / EVIDENCE_NAME, evidence)
    people = config.of_splits
    store = simulated_store(people.recipes(), config.cache)
    write_json(folder / REPORT_NAME, make_report(store, evidence["splits"], people, people.seed))
    print(f"{folder}: {EVIDENCE_NAME}, {REPORT_NAME} written")


def config_of(checkpoint: Checkpoint) -> TrainConfig:
    """Return the settings that made the checkpoint; augmentations are those of its preset, which no option changes."""
    training = checkpoint.training
    preset = recipe(training["preset"])
    return dataclasses.replace(
        preset,
        n_people=sum(training["people"].values()),
        first_person=training["first_person"],
        n_trials=training["trials_per_person"],
        sim_preset=training["simulator_preset"],
        caps=tuple(training["caps"]),
        seed=training["seed"],
        dims=checkpoint.dims,
        pretrain=dataclasses.replace(preset.pretrain, **_without_views(training["pretrain"])),
        fit=dataclasses.replace(preset.fit, **_without_views(training["fit"])),
    )


def _without_views(stage: Plain) -> dict[str, Any]:
    return {name: value for name, value in stage.items() if name != "views"}


NULLS: Mapping[str, str] = {
    "null": "labels have nothing to do with the signals",
    "null-stimulus": "each stimulus shows, emotion does not",
}
"""The simulator's presets without any emotion in the signals."""


FIRST_NULL_PERSON = 5000  # far from those who are trained on
FIRST_CAP_PERSON = 6000

TEN_TWENTY = (
    "Fp1", "Fp2", "F7", "F3", "Fz", "F4", "F8", "T7", "C3", "Cz", "C4", "T8", "P7", "P3", "Pz", "P4", "P8", "O1", "O2",
)  # fmt: skip
MUSE = ("TP9", "AF7", "AF8", "TP10")
"""Electrodes of other caps, all of them among the 36."""

N_RANDOM = 8  # electrodes of a cap that is drawn


@dataclass(frozen=True)
class EvidenceConfig:
    """How much is measured."""

    train: TrainConfig  # the recipe, and its people
    cache: Path  # folder in which examples are kept
    split_people: int = 48  # of them, in the four splits, for every fold of which a model is trained anew
    null_people: int = 16  # of each preset without effects
    cap_people: int = 40  # of each cap
    folds: int = 1  # of the five of each split
    null_folds: int = 3  # with few unseen stimuli, fewer never tell chance from more at p 0.001
    workers: int = 2  # processes, of one thread each

    @property
    def of_splits(self) -> TrainConfig:
        """The settings of the training for the people of the four splits."""
        return dataclasses.replace(self.train, n_people=min(self.split_people, self.train.n_people))

    def nulls(self, preset: str) -> TrainConfig:
        """Return the settings of the training for people without effects."""
        return dataclasses.replace(
            self.train, n_people=self.null_people, first_person=FIRST_NULL_PERSON, sim_preset=preset
        )

    def wearing(self, cap: str) -> TrainConfig:
        """Return the settings of the training for further people with this cap."""
        return dataclasses.replace(self.train, n_people=self.cap_people, first_person=FIRST_CAP_PERSON, caps=(cap,))


@dataclass(frozen=True)
class Task:
    """One fold of some people."""

    config: TrainConfig
    cache: Path
    protocol: SplitKind
    fold: int  # from 0
    full: bool  # with the baselines, and with controls: also without what muscles give to EEG


def gather(config: EvidenceConfig, model: Clmer, report: Report) -> dict[str, Any]:
    """Return everything that the card states beside the content of the model file, as plain JSON values.

    Args:
        config: How much is measured.
        model: The trained model, for its predictions about people without effects.
        report: Called with each result.
    """
    return {
        "split_people": config.of_splits.n_people,
        "split_folds": config.folds,
        "splits": _splits(config, report),
        "nulls": {preset: _null_splits(config, preset, report) for preset in NULLS},
        "unaware": _of_null_people(config, model, report),
        "caps": _by_cap(config, model, report),
    }


def _splits(config: EvidenceConfig, report: Report) -> dict[str, Any]:
    """Return the four splits with baselines and controls, each trained anew."""
    people = config.of_splits
    store = simulated_store(people.recipes(), config.cache)
    tasks = [
        Task(people, config.cache, protocol, fold, full=True) for protocol in PROTOCOLS for fold in range(config.folds)
    ]
    found: Predictions = {}
    for task, of_task in zip(tasks, _run(tasks, config.workers), strict=True):
        of_split = found.setdefault(task.protocol, {})
        for name, rows in of_task.items():
            report(f"{name}, {PROTOCOLS[task.protocol]}: {_accuracy(rows['all']):.3f}")
            for row, answer in rows.items():
                of_split.setdefault(name, {}).setdefault(row, []).append(answer)
    return summary(store, found, people.seed)


def _null_splits(config: EvidenceConfig, preset: str, report: Report) -> dict[str, Any]:
    """Return the accuracy of the network and its p value, by kind of split."""
    people = config.nulls(preset)
    store = simulated_store(people.recipes(), config.cache)
    tasks = [
        Task(people, config.cache, protocol, fold, full=False)
        for protocol in PROTOCOLS
        for fold in range(config.null_folds)
    ]
    answers: dict[SplitKind, list[SplitPredictions]] = {}
    for task, of_task in zip(tasks, _run(tasks, config.workers), strict=True):
        answers.setdefault(task.protocol, []).append(of_task[NETWORK]["all"])
    found: dict[str, Any] = {}
    for protocol, folds in answers.items():
        accuracy, p = float(np.mean([_accuracy(one) for one in folds])), p_of_chance(store, protocol, folds)
        report(f"{preset}, {PROTOCOLS[protocol]}: {accuracy:.3f}, p {p:.4f}")
        found[protocol] = {"accuracy": round(accuracy, 4), "p": round(p, 4)}
    return found


def _of_null_people(config: EvidenceConfig, model: Clmer, report: Report) -> dict[str, Any]:
    """Return the scores and confidence of the trained model on people without effects."""
    people = simulated_store(config.nulls("null").recipes(), config.cache).examples
    scores = evaluate(model, people, majority_class=0)
    report(f"people without effects: {scores['all']['accuracy']:.3f}, sure of {scores['all']['mean_confidence']:.3f}")
    return scores


def _by_cap(config: EvidenceConfig, model: Clmer, report: Report) -> dict[str, Any]:
    """Return the scores of the trained model by cap, on further people; parts of the 36 electrodes stand for caps."""
    people = {cap: simulated_store(config.wearing(cap).recipes(), config.cache).examples for cap in CAP_NAMES}
    wide = people["cap36"]
    among = torch.from_numpy(np.isin(CAP36_CH_NAMES, TEN_TWENTY)), torch.from_numpy(np.isin(CAP36_CH_NAMES, MUSE))
    n, n_channels = wide.mask["eeg"].shape
    order = torch.rand(n, n_channels, generator=torch.Generator().manual_seed(config.train.seed)).argsort(1)
    measured = {
        "Emotiv EPOC, 14 electrodes": people["epoc"],
        "36 electrodes": wide,
        "19 of the 10-20 system": _wearing_some(wide, among[0]),
        "8 at random, others in each window": _wearing_some(wide, order < N_RANDOM),
        "4 of a Muse": _wearing_some(wide, among[1]),
    }
    found = {}
    for title, examples in measured.items():
        scores = evaluate(model, examples, majority_class=0)
        report(f"{title}: {scores['all']['accuracy']:.3f}, EEG alone {scores['eeg']['accuracy']:.3f}")
        found[title] = {name: {key: scores[name][key] for key in ("accuracy", "interval")} for name in ("all", "eeg")}
    return {"n_people": config.cap_people, "scores": found}


def _wearing_some(examples: Examples, kept: torch.Tensor) -> Examples:
    """Return the windows as a cap with these electrodes would have measured them, (C,) or (n, C) bool."""
    x, mask = torch.from_numpy(examples.series["eeg"]), torch.from_numpy(examples.mask["eeg"])
    alone = channels_alone(x, mask, mask & kept)
    return dataclasses.replace(
        examples,
        series={**examples.series, "eeg": alone.numpy()},
        mask={**examples.mask, "eeg": (mask & kept).numpy()},
    )


def _run(tasks: Sequence[Task], workers: int) -> Iterable[dict[str, dict[str, SplitPredictions]]]:
    """Return the predictions of each task, in order."""
    if workers < 2:
        return map(_predict, tasks)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        return list(pool.map(_predict, tasks))


def _predict(task: Task) -> dict[str, dict[str, SplitPredictions]]:
    """Return the predictions for one fold, by estimator and row."""
    torch.set_num_threads(1)
    store = simulated_store(task.config.recipes(), task.cache)
    fold = draw_folds(store, task.protocol, task.config.seed)[task.fold]
    predictions = compare(store, {task.protocol: [fold]}, _estimators(task, store), controls=task.full)
    return {name: {row: folds[0] for row, folds in rows.items()} for name, rows in predictions[task.protocol].items()}


def _estimators(task: Task, store: WindowStore) -> dict[str, Estimator]:
    names = BASELINES if task.full else ()
    baselines = {name: BaselineEstimator(name, store.preprocess, len(store.labels)) for name in names}
    return {NETWORK: NetworkEstimator(task.config, report=lambda line: None), **baselines}


def _accuracy(answers: SplitPredictions) -> float:
    return float((answers.predicted == answers.truth).mean())


def p_of_chance(store: WindowStore, protocol: SplitKind, folds: Iterable[SplitPredictions]) -> float:
    """Return the p value of the right predictions, if labels had nothing to do with the signals.

    Labels of whole trials are permuted within each person. Where stimuli are unseen, those of whole stimuli are: their
    windows may be alike for another reason than emotion.
    """
    permuted = []
    for one in folds:
        unit = groups_of(store, "stimuli" if protocol == "stimuli" else "trial")[one.rows]
        block = np.zeros_like(one.person) if protocol == "stimuli" else one.person
        permuted.append((one.truth, one.predicted, unit, block))
    return permutation_p(permuted)


STIMULI = tuple(f"{label}-{k + 1}" for label in QUADRANTS for k in range(STIMULI_PER_QUADRANT))
"""The stimuli that simulated people are shown, by number."""


def simulated_store(recipes: Sequence[PersonRecipe], cache: Path) -> WindowStore:
    """Return the windows of these people, from the cache where it holds them.

    Args:
        recipes: One for each person, alike but for the person.
        cache: Folder in which each person's examples are kept.
    """
    parts: list[Examples] = []
    stimuli: list[int] = []
    trials: list[str] = []
    for number, (person, examples) in enumerate(zip(recipes, examples_of_people(recipes, cache), strict=True)):
        plan = {trial.id: trial for trial in plan_trials(person.simulation)}
        stimuli.extend(plan[trial].stimulus for trial in examples.trial.tolist())
        numbers = np.full_like(examples.person, number)
        parts.append(dataclasses.replace(examples, person=numbers, trial=examples.trial - 1 + len(trials)))
        trials.extend(f"{person.simulation.participant}, {trial}" for trial in plan)
    return WindowStore(
        examples=concatenate(parts),
        stimulus=np.asarray(stimuli, dtype=np.int64),
        labels=recipes[0].labels,
        people=tuple(str(recipe.simulation.participant) for recipe in recipes),
        stimuli=STIMULI,
        trials=tuple(trials),
        preprocess=recipes[0].preprocess,
        key=digest([recipe.key for recipe in recipes]),
        trained_on="simulated",
    )


def write_card(folder: Path, model: Path, card: Path) -> None:
    """Measure the latency, and write the card from it, the model file and the evidence in the checkpoint's folder."""
    evidence = json.loads((folder / EVIDENCE_NAME).read_text(encoding="utf-8"))
    artifact = find_artifact(str(model))
    evidence["latency"] = measure_latency(Predictor(artifact, "cpu"))
    n_parameters = sum(parameter.numel() for parameter in load_checkpoint(folder).model.parameters())
    card.write_text(card_text(artifact.meta, n_parameters, model.stat().st_size, evidence), encoding="utf-8")
    print(f"{card}: written")


N_CALLS = 300


def measure_latency(predictor: Predictor, n_calls: int = N_CALLS) -> dict[str, Any]:
    """Return median and 99th percentile in ms of a single window in one thread, and the machine, as plain JSON."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    predictor.warm_up()
    window = _reference_window(predictor)
    seconds = []
    for _ in range(n_calls):
        start = time.perf_counter()
        predictor.predict([window])
        seconds.append(time.perf_counter() - start)
    torch.set_num_threads(threads)
    p50, p99 = np.percentile(np.asarray(seconds) * 1000.0, (50, 99)).tolist()
    return {"p50_ms": round(p50, 2), "p99_ms": round(p99, 2), "machine": machine(), "device": str(predictor.device)}


def machine() -> str:
    """Return the processor, the number of cores that may be used, and the version of torch."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{_processor()}, {cores} cores, torch {torch.__version__.split('+')[0]}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next((name for name in named if name), "") or platform.processor() or platform.machine()


def _reference_window(predictor: Predictor) -> Window:
    reference = predictor.meta.reference
    return Window(
        index=0,
        t_start=0.0,
        t_end=predictor.meta.preprocess.window.window_s,
        series={name: series[0].astype(np.float64) for name, series in reference.x.items()},
        mask={name: known[0] for name, known in reference.mask.items()},
    )


SUBSETS = {"all": "EEG and face", "eeg": "EEG alone", "face": "face alone"}


NOT_FOR = """## Do not use it

- to judge, select, rate or watch over anyone;
- as evidence of what a real person feels, in an experiment or outside;
- for medical purposes, or where safety depends on it;
- at work, at school or by the police to infer emotions, which the law forbids in some places.

For an experiment, record your own participants, train on them, and report scores on people (or trials) whom the
model has not seen, beside a baseline. [training.md](../docs/training.md) shows how.
"""


def card_text(meta: ArtifactMeta, n_parameters: int, n_bytes: int, evidence: Plain) -> str:
    """Return the card in Markdown.

    Args:
        meta: Metadata of the model file.
        n_parameters: Of the network.
        n_bytes: Of the file.
        evidence: As ``gather`` returned it, with ``latency`` as ``measure_latency`` returned it.
    """
    parts = [
        _head(meta, n_parameters, n_bytes, evidence["latency"]),
        _training(meta.training),
        _scores(meta),
        _splits_text(evidence),
        _caps(evidence["caps"]),
        _nulls(evidence),
        _reading(),
        NOT_FOR,
    ]
    return "\n".join(parts)


def table(head: Cells, rows: Sequence[Cells]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def _head(meta: ArtifactMeta, n_parameters: int, n_bytes: int, latency: Plain) -> str:
    window, signal = meta.preprocess.window, meta.preprocess.signal
    shape = (
        f"a window of {window.window_s:g} s: EEG of {signal.least_channels} to {len(signal.ch_names)} electrodes "
        f"({signal.sfreq:g} Hz, "
        f"{signal.band[0]:g}-{signal.band[1]:g} Hz), 68 3-D landmarks and 17 action units in {window.face_slots} "
        "slots; any part may be missing"
    )
    latency_text = f"{latency['p50_ms']:.1f} ms (median), {latency['p99_ms']:.1f} ms (99th percentile) for one window"
    rows = [
        ["Input", shape],
        ["Output", f"probabilities of {', '.join(meta.labels)}: low or high valence, low or high arousal"],
        ["Method", "after CLMER: convolutional extractors, attention over ordered pairs of modalities"],
        ["Size", f"{n_parameters / 1e6:.2f} million parameters, {n_bytes / 1e6:.1f} MB"],
        ["Latency", f"{latency_text} on one thread of {latency['machine']} ({latency['device']})"],
        ["Temperature", f"{meta.temperature:.2f}, fitted on validation people"],
        ["Made by", "`make weights`, this page included; settings and seeds stand in the file's own `clmer.json`"],
    ]
    return (
        f"# Model card: {meta.name}\n\n"
        "**Trained on simulated people. What it says about a real person is not known to mean anything.** It ships so\n"
        "that every part of CLMER can be run, tested and built upon before you have a model of your own people.\n\n"
        + table(["", ""], rows)
    )


def _training(training: Plain) -> str:
    people = training["people"]
    stage = "The contrastive stage sees no labels and only the training people."
    contrastive = stage if training["pretrain"]["epochs"] else "There is no contrastive stage."
    return (
        "## Training\n\n"
        f"{sum(people.values())} simulated people of the simulator's `{training['simulator_preset']}` preset, every "
        "other one wearing an EPOC, the rest 36 electrodes, "
        f"{training['trials_per_person']} trials of 12 s each, split by people: {people['train']} to train, "
        f"{people['validation']} to choose the epoch and the temperature, {people['test']} to test. {contrastive}\n\n"
        "The preset's effects are small, as studies of many people find them: 0.15-0.25 standard deviations in band\n"
        "power, 0.4-0.8 in facial expression, a quarter of the faces hardly moving. People differ in the\n"
        "rhythms of their brains, in electrodes, in habits of the face, in how much they talk and how well the camera\n"
        "reads them; blinks, muscles, losses and drift of the clock are in the signals.\n"
    )


def _scores(meta: ArtifactMeta) -> str:
    scores = meta.scores[SPLIT_NAME]
    rows = []
    for name, values in scores.items():
        low, high = values["interval"]
        numbers = [f"{values[key]:.3f}" for key in ("balanced_accuracy", "macro_f1", "majority")]
        sure = [f"{values[key]:.3f}" for key in ("mean_confidence", "calibration_error")]
        sets = _coverage(values["coverage"])
        rows.append(
            [SUBSETS.get(name, name), f"{values['accuracy']:.3f}", f"{low:.3f}-{high:.3f}", *numbers, *sure, *sets]
        )
    head = ["modalities", "accuracy", "95 % interval", "balanced accuracy", "macro F1", "commonest class"]
    counts = scores["all"]
    return (
        "## This file\n\n"
        f"On {counts['n_people']} simulated people whom the model has not seen, {counts['n_windows']} windows that do "
        "not overlap. The interval is a bootstrap over people, since windows of one person are not independent:\n\n"
        + table([*head, "mean confidence", "calibration error", "sets of 90 %: covered", "classes in a set"], rows)
        + "\nThe sets are conformal: thresholds from the people who chose the epoch, each counting alike. Covered is\n"
        "the mean over the test people, with its interval and the least covered person.\n"
    )


def _coverage(found: Plain) -> tuple[str, str]:
    low, high = found["interval"]
    covered = f"{found['share']:.3f} ({low:.3f}-{high:.3f}; least {found['least_of_a_person']:.3f})"
    return covered, f"{found['mean_size']:.2f}"


BIASED = ("calibration_error",)
"""Scores whose bootstrap lies above them, since fewer distinct windows fill each bin: shown without an interval."""


def _splits_text(evidence: Plain) -> str:
    splits = evidence["splits"]
    rows = [[title, *(_cell(splits[p], row, "accuracy") for p in PROTOCOLS)] for row, title in ROWS.items()]
    further = {"macro_f1": "macro F1", "calibration_error": "calibration error", "prior": "drawing by shares"}
    for name, title in further.items():
        rows.append([title, *(_cell(splits[p], "all", name) for p in PROTOCOLS)])
    rows.append(["commonest class", *(_cell(splits[p], "all", "majority") for p in PROTOCOLS)])
    for name, title in BASELINES.items():
        rows.append([title, *(_cell(splits[p], "all", "accuracy", name) for p in PROTOCOLS)])
    verdicts = [splits[p]["verdicts"]["all"]["sentence"] for p in PROTOCOLS if not splits[p]["reason"]]
    return (
        "## The recipe, by four splits\n\n"
        f"The same recipe, trained anew for every column on the same {evidence['split_people']} people, "
        f"{_folds(evidence['split_folds'])}; accuracy, with the 95 % interval over the people of the test, "
        "unless the row says otherwise. The file's `clmer.json` has the network's figures as `split_scores`:\n\n"
        + table(["", *PROTOCOLS.values()], rows)
        + "\n"
        "The first column is the one that papers report, and on its own it says nothing: neighbouring windows of a\n"
        "trial are alike. The rows of EEG are controls. Muscles of the face are in the EEG, most of them above 20 Hz:\n"
        "what is lost without them was read from the face.\n\n" + "".join(f"- {sentence}.\n" for sentence in verdicts)
    )


def _folds(n: int) -> str:
    if n == 1:
        return f"one fold of {N_FOLDS} of each split, so that another fold gives other figures"
    return f"{n} folds of {N_FOLDS} of each split"


def _cell(split: Plain, row: str, name: str, baseline: str | None = None) -> str:
    """Return a score of the network, or of a baseline, with its interval."""
    rows = {} if split["reason"] else split["rows"] if baseline is None else split["baselines"][baseline]
    if row not in rows:
        return str(split["reason"]) or "-"
    scores = rows[row]
    interval = None if name in BIASED else scores["interval"].get(name)
    return f"{scores['mean'][name]:.3f}" + ("" if interval is None else f" ({interval[0]:.3f}-{interval[1]:.3f})")


def _caps(caps: Plain) -> str:
    rows = []
    for title, scores in caps["scores"].items():
        cells = (
            f"{scores[name]['accuracy']:.3f} ({scores[name]['interval'][0]:.3f}-{scores[name]['interval'][1]:.3f})"
            for name in ("all", "eeg")
        )
        rows.append([title, *cells])
    return (
        "## By cap\n\n"
        "The model knows where its 36 electrodes are, was trained with random parts of them, and takes any cap that\n"
        f"has at least four of them. Accuracy on {caps['n_people']} further simulated people who wear an EPOC, and as\n"
        "many with 36 electrodes, of which the lower rows show it a part, with the 95 % interval over people:\n\n"
        + table(["EEG of", SUBSETS["all"], SUBSETS["eeg"]], rows)
    )


def _nulls(evidence: Plain) -> str:
    rows = []
    for preset, title in NULLS.items():
        found = evidence["nulls"][preset]
        cells = (f"{found[p]['accuracy']:.3f} (p {_p(found[p]['p'])})" for p in PROTOCOLS)
        rows.append([f"`{preset}`: {title}", *cells])
    unaware = evidence["unaware"]["all"]
    low, high = unaware["interval"]
    return (
        "## Where there is nothing to find\n\n"
        "The recipe again, on people whose emotions do not show. p is the chance of so many right answers if labels "
        "are permuted anew: trials within a person, or whole stimuli where they are unseen:\n\n"
        + table(["", *PROTOCOLS.values()], rows)
        + "\nOf `null` all but the first column must be at chance, of `null-stimulus` the last one. This file, asked\n"
        f"about {unaware['n_people']} people of preset `null`, is right {unaware['accuracy']:.3f} "
        f"({low:.3f}-{high:.3f}) of the time and sure of {unaware['mean_confidence']:.3f}. It does not know whom it\n"
        "cannot read: a calibration holds for people like those that it was fitted on.\n"
    )


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else "below 0.001"


def _reading() -> str:
    return (
        "## How to read it\n\n"
        "- A single window says little, because the effects that were put in are small. Mean over trials.\n"
        "- The figures are of simulated people. They do not repeat and cannot be set against those of the paper,\n"
        "  which come from recordings of real people that were split by window, not by person.\n"
        "- On real faces only the direction of valence was looked at, on two short videos that were seen during\n"
        "  development: no test of how well the model does on others. A mouth that speech widens is taken for\n"
        "  something of a smile. What a face shows is not what a person feels.\n"
    )


def main() -> None:
    """Run ``evidence`` or ``card``."""
    parser = argparse.ArgumentParser(prog="python -m scripts.release", description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    evidence = commands.add_parser("evidence", help="measure splits, controls and people without effects")
    evidence.add_argument("checkpoint", type=Path, help="folder that clmer train wrote, with its examples")
    evidence.add_argument("--tenth", action="store_true", help="few people and short trainings")
    card = commands.add_parser("card", help="write the model card")
    card.add_argument("checkpoint", type=Path, help="folder that clmer train wrote, with its evidence")
    card.add_argument("model", type=Path, help="file that clmer export made of it")
    card.add_argument("card", type=Path, help="where the card goes")
    args = parser.parse_args()
    if args.command == "evidence":
        write_evidence(args.checkpoint, args.tenth)
    else:
        write_card(args.checkpoint, args.model, args.card)


if __name__ == "__main__":
    main()
