"""``clmer play``: publish the streams of an XDF recording on LSL, in place of the devices."""

from __future__ import annotations

import argparse
import threading
from pathlib import Path

from clmer_server.cli import add_lsl_config

HELP = "publish the streams of an XDF recording on the LSL network"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("file", type=Path, help="XDF recording")
    parser.add_argument("--speed", type=float, default=1.0, help="recorded seconds per second (%(default)g)")
    parser.add_argument("--loop", action="store_true", help="begin again at the end, until interrupted")
    parser.add_argument("--wait", action="store_true", help="begin when somebody listens to one of the streams")
    parser.add_argument(
        "--stream", action="append", default=[], metavar="NAME", help="publish this stream alone; may be repeated"
    )
    add_lsl_config(parser)


def run(args: argparse.Namespace) -> int:
    """Publish the recording, and print which streams and how many samples were published."""
    import sys

    from clmer_streaming.lsl.player import Playback
    from clmer_streaming.lsl.setup import set_up_lsl
    from clmer_streaming.xdf.reader import read_xdf

    set_up_lsl(args.lsl_config)
    stop = threading.Event()
    with Playback(read_xdf(args.file), speed=args.speed, loop=args.loop, names=args.stream) as playback:
        for warning in playback.warnings:
            print(f"warning: {warning}", file=sys.stderr)
        for stream in playback.streams:
            rate = f"{stream.sfreq:g} Hz" if stream.sfreq else "irregular"
            print(
                f"{stream.name!r} ({stream.xdf.type or 'no type'}, {stream.xdf.n_channels} channels, {rate}, "
                f"{stream.n_samples} samples) as {stream.source_id!r}"
            )
        print(f"{playback.duration_s:.1f} s at speed {args.speed:g}; Ctrl+C ends it", flush=True)
        try:
            if not args.wait or playback.wait_for_listener(stop):
                playback.run(stop)
        finally:
            print(f"{playback.n_pushed} samples of {len(playback.streams)} streams were published", flush=True)
    return 0
