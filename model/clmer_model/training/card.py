"""The model card of the shipped weights: every figure comes from the model file or was measured for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clmer_model.metadata import ArtefactMeta
from clmer_model.training.comparison import ROWS
from clmer_model.training.evidence import NULLS
from clmer_model.training.protocols import PROTOCOLS
from clmer_model.training.train import SPLIT_NAME

Plain = Mapping[str, Any]
Cells = Sequence[str]

SUBSETS = {"all": "EEG and face", "eeg": "EEG alone", "face": "face alone"}

NOT_FOR = """## Do not use it

- to judge, select, rate or watch over anyone;
- as evidence of what a real person feels, in an experiment or outside;
- for medical purposes, or where safety depends on it;
- at work, at school or by the police to infer emotions, which the law forbids in some places.

For an experiment, record your own participants, train on them, and report scores on people (or trials) whom the
model has not seen, beside a baseline. [training.md](../docs/training.md) shows how.
"""


def card_text(meta: ArtefactMeta, n_parameters: int, n_bytes: int, evidence: Plain) -> str:
    """Return the card in Markdown.

    Args:
        meta: What the model file says of itself.
        n_parameters: Of the network.
        n_bytes: Of the file.
        evidence: What ``gather`` returned, and ``latency`` as ``measure_latency`` returned it.
    """
    parts = [
        _head(meta, n_parameters, n_bytes, evidence["latency"]),
        _training(meta.training),
        _scores(meta),
        _splits(evidence),
        _nulls(evidence),
        _reading(),
        NOT_FOR,
    ]
    return "\n".join(parts)


def table(head: Cells, rows: Sequence[Cells]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def _head(meta: ArtefactMeta, n_parameters: int, n_bytes: int, latency: Plain) -> str:
    window, signal = meta.preprocess.window, meta.preprocess.signal
    shape = (
        f"a window of {window.window_s:g} s: EEG of {len(signal.ch_names)} channels (Emotiv EPOC, {signal.sfreq:g} Hz, "
        f"{signal.band[0]:g}-{signal.band[1]:g} Hz), 68 3-D landmarks and 17 action units in {window.face_slots} "
        "slots; any part may be missing"
    )
    said = f"{latency['p50_ms']:.1f} ms (median), {latency['p99_ms']:.1f} ms (99th percentile) for one window"
    rows = [
        ["Input", shape],
        ["Output", f"probabilities of {', '.join(meta.labels)}: low or high valence, low or high arousal"],
        ["Method", "after CLMER: contrastively pre-trained extractors, attention over ordered pairs of modalities"],
        ["Size", f"{n_parameters / 1e6:.2f} million parameters, {n_bytes / 1e6:.1f} MB"],
        ["Latency", f"{said} on one thread of {latency['machine']} ({latency['device']})"],
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
    return (
        "## Training\n\n"
        f"{sum(people.values())} simulated people of the simulator's `{training['simulator_preset']}` preset, "
        f"{training['trials_per_person']} trials of 12 s each, split by people: {people['train']} to train, "
        f"{people['validation']} to choose the epoch and the temperature, {people['test']} to test. The "
        "contrastive stage sees no labels and only the training people.\n\n"
        "The preset's effects are small, as studies of many people find them: 0.15-0.25 standard deviations in band\n"
        "power, 0.4-0.8 in facial expression, a quarter of the faces hardly moving. People differ in the\n"
        "rhythms of their brains, in electrodes, in habits of the face, in how much they talk and how well the camera\n"
        "reads them; blinks, muscles, losses and drift of the clock are in the signals.\n"
    )


def _scores(meta: ArtefactMeta) -> str:
    scores = meta.scores[SPLIT_NAME]
    rows = []
    for name, values in scores.items():
        low, high = values["interval"]
        numbers = [f"{values[key]:.3f}" for key in ("balanced_accuracy", "macro_f1", "majority")]
        sure = [f"{values[key]:.3f}" for key in ("mean_confidence", "calibration_error")]
        rows.append([SUBSETS.get(name, name), f"{values['accuracy']:.3f}", f"{low:.3f}-{high:.3f}", *numbers, *sure])
    head = ["modalities", "accuracy", "95 % interval", "balanced accuracy", "macro F1", "commonest class"]
    counts = scores["all"]
    return (
        "## This file\n\n"
        f"On {counts['n_people']} simulated people whom the model has not seen, {counts['n_windows']} windows that do "
        "not overlap. The interval is a bootstrap over people, since windows of one person are not independent:\n\n"
        + table([*head, "mean confidence", "calibration error"], rows)
    )


BIASED = ("calibration_error",)
"""Scores whose bootstrap lies above them, since fewer different windows fill each bin: they are told without it."""


def _splits(evidence: Plain) -> str:
    network, neighbours = evidence["splits"]["network"], evidence["splits"]["neighbours"]
    rows = [[title, *(_cell(network[p], row, "accuracy") for p in PROTOCOLS)] for row, title in ROWS.items()]
    further = {"macro_f1": "macro F1", "calibration_error": "calibration error", "prior": "drawing by shares"}
    for name, title in further.items():
        rows.append([title, *(_cell(network[p], "all", name) for p in PROTOCOLS)])
    rows.append(["commonest class", *(_cell(network[p], "all", "majority") for p in PROTOCOLS)])
    rows.append(["nearest neighbours", *(_cell(neighbours[p], "all", "accuracy") for p in PROTOCOLS)])
    return (
        "## The recipe, by four splits\n\n"
        f"The same recipe, trained anew for every column on the same {evidence['split_people']} people, "
        f"{_shuffles(evidence['split_shuffles'])}; accuracy, with the 95 % interval over the people of the test, "
        "unless the row says otherwise. The file's `clmer.json` has the network's figures as `split_scores`:\n\n"
        + table(["", *PROTOCOLS.values()], rows)
        + "\n"
        "The first column is the one that papers report, and on its own it says nothing: neighbouring windows of a\n"
        "trial are alike. The rows of EEG are controls. Muscles of the face are in the EEG, most of them above 20 Hz:\n"
        "what is lost without them was read from the face.\n"
    )


def _shuffles(n: int) -> str:
    if n == 1:
        return "one shuffle of each split, so that another draw gives other figures"
    return f"means over {n} shuffles of each split"


def _cell(split: Plain, row: str, name: str) -> str:
    if split["reason"] or row not in split["rows"]:
        return str(split["reason"]) or "-"
    scores = split["rows"][row]
    interval = None if name in BIASED else scores["interval"].get(name)
    return f"{scores['mean'][name]:.3f}" + ("" if interval is None else f" ({interval[0]:.3f}-{interval[1]:.3f})")


def _nulls(evidence: Plain) -> str:
    rows = []
    for preset, title in NULLS.items():
        found = evidence["nulls"][preset]
        told = (f"{found[p]['accuracy']:.3f} (p {_p(found[p]['p'])})" for p in PROTOCOLS)
        rows.append([f"`{preset}`: {title}", *told])
    unaware = evidence["unaware"]["all"]
    low, high = unaware["interval"]
    return (
        "## Where there is nothing to find\n\n"
        "The recipe again, on people whose emotions do not show. p is the chance of so many right answers if labels "
        "are dealt anew: trials within a person, or whole stimuli where they are unseen:\n\n"
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
