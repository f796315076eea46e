"""The option ``--lsl-config``, which every command that uses LSL has."""

from __future__ import annotations

import argparse
from pathlib import Path

LSL_CONFIG_HELP = "LSL configuration file (lsl_api.cfg), for networks without multicast; see docs/finding-streams.md"


def add_lsl_config(parser: argparse.ArgumentParser) -> None:
    """Declare the option; ``set_up_lsl`` takes it before anything else of LSL is called."""
    parser.add_argument("--lsl-config", type=Path, help=LSL_CONFIG_HELP)
