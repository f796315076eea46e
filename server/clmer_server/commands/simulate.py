"""``clmer simulate``: a recording of a simulated participant, with known emotion."""

from __future__ import annotations

import argparse
from pathlib import Path

from clmer_streaming.sources.simulation.config import PRESETS, SimulationConfig

HELP = "make a recording of a simulated participant"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    usual = SimulationConfig()
    parser.add_argument("--out", type=Path, required=True, help="XDF file to write; an existing one is replaced")
    parser.add_argument("--seconds", type=float, default=usual.seconds, help="length of the recording (%(default)g)")
    parser.add_argument("--seed", type=int, default=usual.seed, help="number of the session (%(default)s)")
    parser.add_argument(
        "--preset",
        default=usual.preset,
        help=f"how strongly emotion shows: {', '.join(PRESETS)} (%(default)s)",
    )
    parser.add_argument(
        "--participant", type=int, default=usual.participant, help="number of the simulated person (%(default)s)"
    )
    parser.add_argument("--trial-seconds", type=float, default=usual.trial_s, help="length of a trial (%(default)g)")
    parser.add_argument("--rest-seconds", type=float, default=usual.rest_s, help="rest between trials (%(default)g)")


def run(args: argparse.Namespace) -> int:
    """Simulate the session, write it, and tell what is in it."""
    from clmer_streaming.sources.simulator import simulate, write_session

    config = SimulationConfig(
        seconds=args.seconds,
        seed=args.seed,
        preset=args.preset,
        participant=args.participant,
        trial_s=args.trial_seconds,
        rest_s=args.rest_seconds,
    )
    session = simulate(config)
    write_session(session, args.out)
    labels = ", ".join(trial.label for trial in session.truth.trials) or "none"
    print(f"{args.out}: {config.seconds:g} s of simulated participant {config.participant}, preset {config.preset}")
    print(f"trials: {labels}")
    return 0
