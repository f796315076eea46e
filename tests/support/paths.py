"""Where the checkout is, and the recording that it brings along."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
RECORDING = ROOT / "examples" / "session.xdf"
