"""A simulated session as an XDF file, in the manner of LabRecorder on the computer that made the stamps."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import cast

import numpy as np

from clmer_streaming.config import EPOC_CH_NAMES
from clmer_streaming.sources.simulation.config import SIMULATOR_ID
from clmer_streaming.sources.simulation.session import SimulatedSession
from clmer_streaming.types import FloatArray, StreamInfo
from clmer_streaming.xdf.format import ChannelFormat
from clmer_streaming.xdf.writer import XdfStreamSpec, XdfWriter

PULL_S = 0.5  # s between two pulls of the recorder
OFFSET_EVERY, BOUNDARY_EVERY = 10, 20  # pulls: a clock offset each 5 s, a boundary each 10 s


def write_session(session: SimulatedSession, path: str | Path) -> None:
    """Write a session to an XDF file; the same session gives the same bytes.

    Every clock offset is 0, as on one computer: so a replay has the stamps of ``session.items()``, bit for bit.

    Args:
        session: What ``simulate`` returned.
        path: File to create; an existing one is replaced.

    Raises:
        RecordingError: The file cannot be created.
    """
    with XdfWriter(path) as xdf:
        ids = [xdf.add_stream(spec) for spec in stream_specs(session)]
        stamps = (session.eeg_t, session.face.t, np.asarray([marker.t for marker in session.markers]))
        labels = np.asarray([marker.label for marker in session.markers], dtype=object)
        values = (session.eeg_x, session.face.rows.T, labels)
        for number, (now, pieces) in enumerate(_pulls(session, stamps)):
            for stream_id, t, x, piece in zip(ids, stamps, values, pieces, strict=True):
                xdf.write_samples(stream_id, t[piece], x[..., piece])
                if number % OFFSET_EVERY == 0:
                    xdf.write_offset(stream_id, now, 0.0)
            if number % BOUNDARY_EVERY == BOUNDARY_EVERY - 1:
                xdf.boundary()


def stream_specs(session: SimulatedSession) -> tuple[XdfStreamSpec, ...]:
    """Return the headers of the EEG, face and marker streams."""
    eeg, face, markers = (_spec(info, session) for info in session.infos)
    units = tuple(session.eeg_info.unit if name in EPOC_CH_NAMES else "" for name in eeg.ch_names)
    return (
        dataclasses.replace(eeg, units=units),
        dataclasses.replace(face, desc={**face.desc, "extractor": session.face_info.extractor}),
        markers,
    )


def _spec(info: StreamInfo, session: SimulatedSession) -> XdfStreamSpec:
    """Return what the headers of all streams have in common."""
    return XdfStreamSpec(
        name=info.name,
        type=info.type,
        ch_names=info.ch_names,
        sfreq=info.sfreq,
        channel_format=cast(ChannelFormat, info.channel_format),
        source_id=info.source_id,
        hostname=info.hostname,
        manufacturer=info.manufacturer,
        desc={"simulator": SIMULATOR_ID, "preset": session.config.preset},
        created_at=session.t0,
    )


def _pulls(session: SimulatedSession, stamps: tuple[FloatArray, ...]) -> Iterator[tuple[float, tuple[slice, ...]]]:
    """Yield for each pull its time and the pieces of the streams that had arrived since the one before."""
    last = max(float(t[-1]) for t in stamps if t.size)
    n_pulls = int((last - session.t0) / PULL_S) + 1
    times = session.t0 + PULL_S * np.arange(1, n_pulls + 1)
    cuts = [np.searchsorted(t, times).tolist() for t in stamps]
    edges = [list(pairwise([0, *cut])) for cut in cuts]
    for number, now in enumerate(times.tolist()):
        yield now, tuple(slice(*edge[number]) for edge in edges)
