"""Eyes open against closed in a real Emotiv recording: the EEG extractor of preset ``default`` beside simpler answers.

Run with ``CLMER_TEST_DATA=FOLDER python benchmarks/eye_state.py``; the folder holds ``eeg/eeg-eye-state.csv`` (EEG Eye
State, O. Roesler, one person, 117 s). Without it the program says so and ends with code 2. Blocks of time are asked one
after the other by what was trained on all others but their neighbourhood; the interval draws whole blocks again. The
last column divides windows at random, neighbours on both sides, to show what that is worth. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from comparison_parts.report import figure, markdown
from eye_state_parts.answering import EPOCHS, Learner, band_powers, extractor, majority
from eye_state_parts.recording import FILE, EyeWindows, Fold, block_folds, blocks_of, read_windows, shuffled_folds

from clmer_model.predictor import limit_threads
from clmer_model.training.evaluate import Floats, accuracy, balanced_accuracy, matrices_of_people

NO_DATA = 2  # exit code
SHUFFLED_FOLDS = 10


def main() -> int:
    """Train, ask and print; return the exit code."""
    args = options()
    folder = os.environ.get("CLMER_TEST_DATA", "")
    if not folder or not (Path(folder) / FILE).is_file():
        print(f"no recording: CLMER_TEST_DATA should name a folder with {FILE}", file=sys.stderr)
        return NO_DATA
    windows = read_windows(Path(folder))
    folds = block_folds(windows, args.block, args.guard)
    n_train = [len(fold.train) for fold in folds]
    print(
        f"{len(windows)} windows, {windows.closed.mean():.3f} of them closed; {len(folds)} blocks of {args.block:g} s;"
    )
    print(f"guard {args.guard:g} s, {min(n_train)} to {max(n_train)} windows to train on\n")
    learners: Mapping[str, Sequence[Learner]] = {
        "the more frequent answer": [majority],
        "logistic regression on band powers": [band_powers],
        "extractor of `default`": [extractor(seed, args.epochs) for seed in args.seeds],
    }
    rows = [["answer by", "accuracy", "each seed", "balanced accuracy", "accuracy, windows at random: leaks"]]
    for name, seeds in learners.items():
        matrices = [answered(windows, folds, learner, args.block) for learner in seeds]
        leaking = answered(windows, shuffled_folds(windows, SHUFFLED_FOLDS, 1), seeds[0], args.block)
        total = np.sum(matrices, axis=0)
        of_seeds = ", ".join(f"{accuracy(one.sum(0)):.3f}" for one in matrices)
        scores = [str(figure(score, total)) for score in (accuracy, balanced_accuracy)]
        rows.append([name, scores[0], of_seeds, scores[1], f"{accuracy(leaking.sum(0)):.3f}"])
    print(markdown(rows))
    return 0


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--block", type=float, default=9.0, help="s, length of a block")
    parser.add_argument("--guard", type=float, default=2.0, help="s around a block that nothing is trained on")
    parser.add_argument("--seeds", type=int, nargs="+", default=(1, 2, 3))
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    return parser.parse_args()


def answered(windows: EyeWindows, folds: Sequence[Fold], learner: Learner, block_s: float) -> Floats:
    """Return the confusion matrix of each block of time, (blocks, 2, 2)."""
    answers = np.zeros(len(windows), dtype=np.int64)
    for fold in folds:
        answers[fold.test] = learner(windows.take(fold.train), windows.take(fold.test))
    return matrices_of_people(windows.closed, answers, blocks_of(windows, block_s), 2)


if __name__ == "__main__":
    limit_threads()
    sys.exit(main())
