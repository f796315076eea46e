"""How far a training is: bars on a terminal, lines in a log."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from clmer_model.checkpoint import load_checkpoint
from clmer_model.training.config import PretrainConfig, TrainConfig
from clmer_server.cli import main
from clmer_server.commands.train import UNLABELLED_EPOCHS, BarProgress, LineProgress, stage_epochs, training_progress
from tests.support.tiny_training import small_examples

STAGES = {"pretrain eeg": 2, "pretrain aus": 2, "fit": 4}
EXAMPLES: dict[str, Any] = {"stage": "examples", "train": 48, "validation": 12, "test": 20}


def epochs(stage: str, *losses: float) -> Iterator[dict[str, Any]]:
    """Yield the lines of a stage's epochs with these losses."""
    validation = {"validation": 1.5} if stage == "fit" else {}
    yield from ({"stage": stage, "epoch": n, "loss": loss, **validation} for n, loss in enumerate(losses))


def console(terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=120, color_system=None)


def said(where: Console) -> list[str]:
    """Return what a terminal shows at the end, or what a log holds, line by line."""
    assert isinstance(where.file, io.StringIO)
    last_frame = re.split(r"\x1b\[\d*[AK]", where.file.getvalue())[-1]
    plain = re.sub(r"\x1b\[[?\d;]*[a-zA-Z]", "", last_frame)
    return [" ".join(line.split()) for line in plain.splitlines() if line.strip()]


def bars(*lines: dict[str, Any], seconds_per_line: float = 10.0) -> dict[str, str]:
    """Return by stage the bar that a terminal shows after these lines, which came so many seconds apart."""
    now, terminal = [0.0], console(terminal=True)
    with BarProgress(terminal, STAGES, clock=lambda: now[0]) as progress:
        for line in lines:
            progress.show(line)
            now[0] += seconds_per_line
        now[0] -= seconds_per_line
    return {stage: line for line in said(terminal) for stage in STAGES if line.startswith(stage)}


def test_a_terminal_shows_a_bar_for_each_stage_with_the_time_that_is_left() -> None:
    """Two stages are done; the third has done one epoch of four in 10 s, so 30 s are left."""
    shown = bars(EXAMPLES, *epochs("pretrain eeg", 3.0, 2.0), *epochs("pretrain aus", 3.0, 1.0), *epochs("fit", 1.25))
    assert list(shown) == list(STAGES)
    assert re.search(r"2/2 loss 2\.0000 0:00:20$", shown["pretrain eeg"])
    assert re.search(r"2/2 loss 1\.0000 0:00:20$", shown["pretrain aus"])
    assert re.search(r"1/4 loss 1\.2500, validation 1\.5000 0:00:30$", shown["fit"])


def test_the_bar_of_a_stage_is_there_before_its_first_epoch_is_done() -> None:
    """An epoch of the paper's recipe takes minutes."""
    (shown,) = bars(EXAMPLES).values()
    assert re.search(r"^pretrain eeg .*0/2 .*-:--:--$", shown)


def test_a_resumed_training_begins_its_bar_where_it_goes_on() -> None:
    """Two of four epochs were done before; what is left is told from the one that was timed."""
    third, fourth = list(epochs("fit", 4.0, 3.0, 2.0, 1.0))[2:]
    assert "3/4" in bars(third)["fit"]
    assert "4/4 loss 1.0000" in bars(third, fourth)["fit"]


def test_a_training_that_stops_early_has_a_full_bar() -> None:
    """And a stage that was left out, for want of windows, has none."""
    shown = bars(EXAMPLES, *epochs("pretrain aus", 3.0, 1.0), *epochs("fit", 1.0, 2.0), {"stage": "calibrate"})
    assert list(shown) == ["pretrain aus", "fit"]
    assert "2/2" in shown["fit"]


def test_a_log_gets_a_line_for_each_epoch() -> None:
    """Plain text, without anything that moves a cursor."""
    log = console(terminal=False)
    with LineProgress(log, STAGES) as progress:
        lines = [
            EXAMPLES,
            *epochs("fit", 1.25),
            {"stage": "calibrate", "temperature": 1.1},
            {"stage": "test", "all": {}},
        ]
        for line in lines:
            progress.show(line)
    assert said(log) == [
        "examples: train 48, validation 12, test 20",
        "fit: epoch 1 of 4, loss 1.2500, validation 1.5000",
        "calibrate: temperature 1.1000",
    ]
    assert isinstance(log.file, io.StringIO)
    assert "\x1b" not in log.file.getvalue()


def test_people_are_counted_while_they_are_simulated() -> None:
    """A log of hundreds gets ten lines, a terminal one bar; everybody's examples are passed on."""
    everybody = [small_examples(1)] * 200
    log, terminal = console(terminal=False), console(terminal=True)
    assert list(LineProgress(log, STAGES).people(everybody, 200)) == everybody
    assert said(log) == [f"simulating people: {n} of 200" for n in range(20, 201, 20)]
    with BarProgress(terminal, STAGES) as progress:
        assert list(progress.people(everybody, 200)) == everybody
    assert "200/200" in said(terminal)[-1]


def test_only_a_terminal_gets_bars() -> None:
    """A file does not, nor does a process that is to be quiet."""
    quiet = Console(file=io.StringIO(), force_terminal=True, quiet=True)
    chosen = [training_progress(where, TrainConfig()) for where in (console(True), console(False), quiet)]
    assert [type(progress) for progress in chosen] == [BarProgress, LineProgress, LineProgress]


def test_the_stages_are_those_that_the_recipe_trains() -> None:
    """One for each modality and one with labels; without a contrastive stage, the last alone."""
    usual = TrainConfig(pretrain=PretrainConfig(epochs=2))
    names = ["pretrain eeg", "pretrain landmarks", "pretrain aus", "fit"]
    assert stage_epochs(usual) == dict(zip(names, (2, 2, 2, 6), strict=True))
    assert stage_epochs(TrainConfig()) == {"fit": 6}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of EEG of two simulated people, and a recording without trials beside it."""
    folder = tmp_path_factory.mktemp("lab")
    assert (
        main(["simulate", "--dataset", str(folder / "data"), "--people", "2", "--trials", "4", "--preset", "easy"]) == 0
    )
    words = ["prepare", "--dataset", "sessions", "--root", str(folder / "data"), "--out", str(folder / "windows")]
    assert main([*words, "--modalities", "eeg"]) == 0
    (folder / "more").mkdir()
    assert main(["simulate", "--out", str(folder / "more" / "rest.xdf"), "--seconds", "40", "--participant", "9"]) == 0
    return folder


def test_recordings_without_labels_serve_the_contrastive_stage(lab: Path, tmp_path: Path) -> None:
    """Their windows are seen beside those of the trials, every fourth one; their hashes stand in the checkpoint."""
    words = ["train", "--store", str(lab / "windows"), "--out", str(tmp_path / "run"), "--epochs", "1"]
    assert main([*words, "--unlabelled", str(lab / "more")]) == 0
    log = [json.loads(line) for line in (tmp_path / "run" / "curves.jsonl").read_text(encoding="utf-8").splitlines()]
    (told,) = (line for line in log if line["stage"] == "unlabelled")
    assert told["recordings"] == 1
    assert 15 <= told["windows"] <= 20  # of 40 s, one every 2 s
    assert sum(line["stage"] == "pretrain eeg" for line in log) == UNLABELLED_EPOCHS
    training = load_checkpoint(tmp_path / "run").training
    assert training["unlabelled"]["windows"] == told["windows"]
    assert list(training["unlabelled"]["files"]) == ["rest.xdf"]
    assert len(training["unlabelled"]["files"]["rest.xdf"]) == 64


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "no --store"),
        (["--store", "windows", "--pretrain-epochs", "0"], "--pretrain-epochs 0"),
        (["--store", "windows", "--unlabelled", "data/none"], "a folder with XDF recordings"),
    ],
)
def test_recordings_that_serve_nothing_are_refused(
    options: list[str], said: str, lab: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = [str(lab / word) if word in ("windows", "data/none") else word for word in options]
    words = ["train", "--out", str(tmp_path / "run"), "--unlabelled", str(lab / "more"), *named]
    assert main(words) == 2
    assert said in capsys.readouterr().err
