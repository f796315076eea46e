"""``clmer simulate``: write a recording of a simulated participant with known emotion, or a data set of many."""

from __future__ import annotations

import argparse
from pathlib import Path

from clmer_streaming.errors import SettingsError
from clmer_streaming.simulation.config import CAP_NAMES, PRESETS, SimulationConfig

HELP = "make a recording of a simulated participant, or a data set of many"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    defaults = SimulationConfig()
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--out", type=Path, help="XDF file to write; an existing one is replaced")
    target.add_argument("--dataset", type=Path, metavar="DIR", help="folder for recordings, manifest.csv, trials.csv")
    parser.add_argument("--people", type=int, default=8, help="of a data set: number of people (%(default)s)")
    parser.add_argument("--trials", type=int, default=8, help="of a data set: trials of each person (%(default)s)")
    parser.add_argument("--seconds", type=float, default=defaults.seconds, help="length of the recording (%(default)g)")
    parser.add_argument("--seed", type=int, default=defaults.seed, help="number of the session (%(default)s)")
    parser.add_argument(
        "--preset",
        default=defaults.preset,
        help=f"how strongly emotion shows: {', '.join(PRESETS)} (%(default)s)",
    )
    parser.add_argument(
        "--participant", type=int, default=defaults.participant, help="number of the simulated person (%(default)s)"
    )
    parser.add_argument("--cap", default=defaults.cap, help=f"that people wear: {', '.join(CAP_NAMES)} (%(default)s)")
    parser.add_argument("--trial-seconds", type=float, default=defaults.trial_s, help="length of a trial (%(default)g)")
    parser.add_argument("--rest-seconds", type=float, default=defaults.rest_s, help="rest between trials (%(default)g)")


def run(args: argparse.Namespace) -> int:
    """Simulate and write the recording or data set, and print its content."""
    config = SimulationConfig(
        seconds=args.seconds,
        seed=args.seed,
        preset=args.preset,
        participant=args.participant,
        trial_s=args.trial_seconds,
        rest_s=args.rest_seconds,
        cap=args.cap,
    )
    return _write_dataset(args, config) if args.dataset else _write_recording(args.out, config)


def _write_recording(out: Path, config: SimulationConfig) -> int:
    from clmer_streaming.simulation.session import simulate, write_session

    session = simulate(config)
    write_session(session, out)
    labels = ", ".join(trial.label for trial in session.truth.trials) or "none"
    print(f"{out}: {config.seconds:g} s of simulated participant {config.participant}, preset {config.preset}")
    print(f"trials: {labels}")
    return 0


def _write_dataset(args: argparse.Namespace, config: SimulationConfig) -> int:
    from rich.progress import track

    from clmer_streaming.simulation.session import simulate_cohort, write_dataset

    if args.people < 1 or args.trials < 1:
        found = f"{args.people} people, {args.trials} trials"
        raise SettingsError("at least one person and one trial", found, "raise --people or --trials")
    sessions = simulate_cohort(args.people, config, n_trials=args.trials)
    for _ in track(write_dataset(sessions, args.dataset), "simulating people", total=args.people, transient=True):
        pass
    print(f"{args.dataset}: {args.people} simulated people, {args.trials} trials each, preset {config.preset}")
    return 0
