"""Preset ``default`` against ``paper``, a network like Husformer and variants of itself, trained alike.

Run with ``python benchmarks/comparison.py --train``. It can be broken off, and goes on where it was; a result is kept
for each run, and only what is missing is trained. Without ``--train`` it prints the tables of the runs that are there,
in Markdown. Simulated people of preset ``realistic`` train, choose and test; nobody is on two sides. The people who
choose decide each network's epoch and temperature, its learning rate where several are given (on the first seed), and
between variants of a network; the test people are asked once. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from comparison_parts.cohort import Cohort
from comparison_parts.contenders import CONTENDERS, OURS
from comparison_parts.report import difference_table, score_table, training_table
from comparison_parts.runs import Run, result_of

from clmer_model.data.examples import Examples
from clmer_model.predictor import limit_threads
from clmer_model.training.splits import Sides

NOTHING_TO_SHOW = 2  # exit code
RATES = (1e-3,)
SEEDS = (1, 2, 3)

Results = dict[str, list[dict[str, Any]]]
"""The results of each network, one of each seed."""


def main() -> int:
    """Train what is missing, print the tables; return the exit code."""
    args = options()
    cohort = Cohort(args.people[0], args.people[1], args.people[2], args.trials)
    runs = {
        name: [[Run(name, seed, rate, args.epochs, cohort=cohort) for rate in args.rates] for seed in args.seeds]
        for name in args.networks
    }
    sides = cohort.sides(args.out / "windows", _told) if args.train else None
    results = {name: found for name in args.networks if (found := chosen(runs[name], sides, args.out))}
    if not results:
        print(f"no results in {args.out} for these options; --train makes them", file=sys.stderr)
        return NOTHING_TO_SHOW
    show(results)
    return 0


def options() -> argparse.Namespace:
    """Read the command line."""
    usual = Cohort()
    people = (usual.n_train, usual.n_validation, usual.n_test)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", action="store_true", help="train what has no result yet")
    parser.add_argument("--out", type=Path, default=Path("build/comparison"), help="folder of results and windows")
    parser.add_argument("--networks", nargs="+", choices=CONTENDERS, default=list(CONTENDERS), metavar="NAME")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--rates", type=float, nargs="+", default=RATES, help="learning rates to choose from")
    parser.add_argument("--epochs", type=int, default=Run.epochs)
    parser.add_argument("--people", type=int, nargs=3, default=people, metavar="N", help="to train, to choose, to test")
    parser.add_argument("--trials", type=int, default=usual.n_trials, help="of each person")
    return parser.parse_args()


def chosen(runs: list[list[Run]], sides: Sides | None, out: Path) -> list[dict[str, Any]]:
    """Return a network's result of each seed, at the learning rate of least validation loss on the first seed.

    Args:
        runs: By seed and rate what may be trained.
        sides: The windows; None: take the results that are there, and nothing of a network that lacks one.
        out: Folder of the results.
    """
    first = known([_result(run, sides, out) for run in runs[0]])
    if not first:
        return []
    best = min(range(len(first)), key=lambda i: float(first[i]["validation_loss"]))
    others = [_result(of_seed[best], sides, out) for of_seed in runs[1:]]
    return known([first[best], *others])


def known(results: list[dict[str, Any] | None]) -> list[dict[str, Any]]:
    """Return the results if there are all of them, else none."""
    there = [result for result in results if result is not None]
    return there if len(there) == len(results) else []


def _result(run: Run, sides: Sides | None, out: Path) -> dict[str, Any] | None:
    if sides is not None:
        print(f"{run.contender}, seed {run.seed}, learning rate {run.rate:g}", file=sys.stderr, flush=True)
    return result_of(run, sides, out)


def show(results: Results) -> None:
    """Print the tables."""
    print(training_table(results))
    print("\nPeople who chose (validation):\n")
    print(score_table(results, "validation"))
    print("\nPeople who were asked once (test):\n")
    print(score_table(results, "test"))
    if OURS in results:
        print("\nAccuracy in percentage points, paired by person, validation:\n")
        print(difference_table(results, OURS, "validation"))
        print("\nThe same, test:\n")
        print(difference_table(results, OURS, "test"))


def _told(people: Iterable[Examples], n: int) -> Iterable[Examples]:
    for k, examples in enumerate(people, start=1):
        if k % 8 == 0 or k == n:
            print(f"windows of {k} of {n} people", file=sys.stderr, flush=True)
        yield examples


if __name__ == "__main__":
    limit_threads()
    sys.exit(main())
