"""Draw the pictures of docs/action-units.md: the neutral face of 68 landmarks, and what each action unit moves.

The face is the simulator's neutral template, a drawing of numbers and nobody's photograph. Grey is neutral, red is
the unit at intensity 5; thin lines join where a landmark was and where it went.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from clmer_streaming.face.action_units import MAX_INTENSITY
from clmer_streaming.face.layout import AU_NAMES
from clmer_streaming.simulation.face import express
from clmer_streaming.simulation.participant import neutral_template
from clmer_streaming.types import FloatArray

FOLDER = Path(__file__).parents[1] / "docs/images"

CONTOURS: tuple[tuple[tuple[int, ...], bool], ...] = (
    (tuple(range(17)), False), (tuple(range(17, 22)), False), (tuple(range(22, 27)), False),
    (tuple(range(27, 31)), False), (tuple(range(31, 36)), False),
    (tuple(range(36, 42)), True), (tuple(range(42, 48)), True),
    (tuple(range(48, 60)), True), (tuple(range(60, 68)), True),
)  # fmt: skip
"""The lines of the iBUG face, and whether each is closed."""

COLUMNS, PANEL_PX = 6, 150
LEFT_CM, TOP_CM, WIDTH_CM, HEIGHT_CM = -8.0, 3.2, 16.0, 17.5  # the part of the plane that a panel shows
NEUTRAL, ACTED, TEXT = "#9aa5b1", "#c8102e", "#52606d"


def main() -> None:
    """Write both pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=FOLDER)
    folder: Path = parser.parse_args().out
    for name, text in (("landmarks.svg", landmark_picture()), ("action-units.svg", action_unit_picture())):
        (folder / name).write_text(text, encoding="utf-8")
        print(f"wrote {folder / name}")


def landmark_picture() -> str:
    """Return the neutral face with its landmarks numbered, as SVG."""
    scale = 40.0  # px/cm
    face = neutral_template()
    parts = [lines(face, scale, NEUTRAL, 2.0)]
    for index, (x, y) in enumerate(on_paper(face, scale)):
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{ACTED}"/>')
        parts.append(f'<text x="{x + 4:.1f}" y="{y - 4:.1f}" font-size="10" fill="{TEXT}">{index}</text>')
    return svg(WIDTH_CM * scale, HEIGHT_CM * scale, parts)


def action_unit_picture() -> str:
    """Return a panel for each action unit at full intensity, as SVG."""
    scale = PANEL_PX / WIDTH_CM
    height = HEIGHT_CM * scale + 18
    neutral = neutral_template()
    parts = []
    for index, au in enumerate(AU_NAMES):
        x, y = index % COLUMNS * PANEL_PX, index // COLUMNS * height
        intensities = np.zeros((len(AU_NAMES), 1))
        intensities[index] = MAX_INTENSITY
        acted = express(neutral, intensities)[0]
        parts.append(f'<g transform="translate({x},{y:.1f})">')
        parts.append(f'<text x="8" y="14" font-size="13" font-weight="bold" fill="{TEXT}">{au}</text>')
        parts.append('<g transform="translate(0,18)">')
        parts += [lines(neutral, scale, NEUTRAL, 1.0), lines(acted, scale, ACTED, 1.0, unlike=neutral)]
        parts.append(ways(neutral, acted, scale))
        parts.append("</g></g>")
    rows = -(-len(AU_NAMES) // COLUMNS)
    return svg(COLUMNS * PANEL_PX, rows * height, parts)


def on_paper(face: FloatArray, scale: float) -> list[tuple[float, float]]:
    """Return where landmarks (68, 3) cm lie in a panel, x to the right and y down in px."""
    return [((x - LEFT_CM) * scale, (TOP_CM - y) * scale) for x, y, _ in face.tolist()]


def lines(face: FloatArray, scale: float, colour: str, width: float, unlike: FloatArray | None = None) -> str:
    """Return the contours of a face; only those that differ from another's, if there is one to compare with."""
    points = on_paper(face, scale)
    paths = []
    for indices, closed in CONTOURS:
        if unlike is not None and np.array_equal(face[list(indices)], unlike[list(indices)]):
            continue
        way = " L".join(f"{points[i][0]:.1f} {points[i][1]:.1f}" for i in indices)
        paths.append(f"M{way}{' Z' if closed else ''}")
    return f'<path d="{" ".join(paths)}" fill="none" stroke="{colour}" stroke-width="{width}"/>'


def ways(before: FloatArray, after: FloatArray, scale: float) -> str:
    """Return a thin line for each landmark that moves, with a dot where it arrives."""
    parts = []
    for (x0, y0), (x1, y1) in zip(on_paper(before, scale), on_paper(after, scale), strict=True):
        if abs(x1 - x0) + abs(y1 - y0) > 0.3:
            parts.append(f'<path d="M{x0:.1f} {y0:.1f} L{x1:.1f} {y1:.1f}" stroke="{ACTED}" stroke-width="0.6"/>')
            parts.append(f'<circle cx="{x1:.1f}" cy="{y1:.1f}" r="1.6" fill="{ACTED}"/>')
    return "".join(parts)


def svg(width: float, height: float, parts: list[str]) -> str:
    """Return a whole SVG file on white paper."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" font-family="sans-serif">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    main()
