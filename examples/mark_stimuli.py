"""Mark stimuli in a running service, and print the mean valence during each.

Start a service first, then this program::

    clmer-serve --replay examples/session.xdf --loop
    python examples/mark_stimuli.py calm joy --seconds 10

Each stimulus becomes a pair of markers, NAME/start and NAME/end, which ``clmer session export --format trials`` finds
in a recording by itself.
"""

from __future__ import annotations

import argparse
import statistics
import time

import clmer


def show(name: str, seconds: float) -> None:
    """Show a stimulus; put your own here."""
    print(f"{name} for {seconds:g} s")
    time.sleep(seconds)


def main() -> None:
    """Show every stimulus."""
    parser = argparse.ArgumentParser(description="Mark stimuli, and print the mean valence during each.")
    parser.add_argument("names", nargs="+", metavar="NAME", help="stimuli, in the order in which they are shown")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long each is shown (%(default)g)")
    parser.add_argument("--url", default="ws://127.0.0.1:8765", help="of the service (%(default)s)")
    args = parser.parse_args()
    with clmer.connect(args.url) as client:
        print(f"model {client.welcome.model.id}, trained on {client.welcome.model.trained_on} data")
        for name in args.names:
            begun = client.mark(f"{name}/start").t
            show(name, args.seconds)
            ended = client.mark(f"{name}/end").t
            inside = []
            for event in client.predictions(timeout_s=30):
                if event.t_end > ended:
                    break
                if event.t_start >= begun and event.valence is not None:
                    inside.append(event.valence)
            mean = f"mean valence {statistics.fmean(inside):.2f}" if inside else "no valid window"
            print(f"{name}: {mean}, {len(inside)} windows")


if __name__ == "__main__":
    main()
