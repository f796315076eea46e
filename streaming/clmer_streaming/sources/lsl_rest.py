"""When a reader may rest, because no window waits for the next sample: samples taken together cost less than singly.

Resting changes how the stream is cut into chunks, and no stage can tell that; a sample that completes a window is taken
as soon as it comes.
"""

from __future__ import annotations

from dataclasses import dataclass

from clmer_streaming.resampling import PolyphaseResampler

LONGEST_S = 0.05
"""Seconds of the longest rest: charts and recordings still get samples twenty times a second."""

_MARGIN_S = 0.004  # s before the end of a window in which there is no rest; a timer may be late
_JITTER_S = 0.005  # s by which the stamp of the sample that completes a window may stray from its counted time


@dataclass(frozen=True)
class WindowGrid:
    """Whose ends a reader waits for, on the clock of the stream's stamps."""

    hop_s: float  # between the ends of two windows
    delay_s: float = 0.0  # taken off the stamps on top of what the stream declares


@dataclass(frozen=True)
class Rest:
    """Tells how long a reader may rest.

    Args:
        hop_s: Seconds between the ends of two windows, which lie on its multiples.
        delay_s: Seconds from the end of a window to the stamp of the sample that may complete it.
        doubt_s: Seconds by which the stamp of the sample that does may be later.
    """

    hop_s: float
    delay_s: float
    doubt_s: float

    @classmethod
    def of(cls, sfreq: float, delay_s: float, model_sfreq: float, hop_s: float) -> Rest:
        """Return the rests of a stream.

        Args:
            sfreq: Its nominal rate in Hz; 0 where none is declared.
            delay_s: Seconds that are taken off its stamps.
            model_sfreq: The rate in Hz to which it is resampled.
            hop_s: Seconds between two windows.
        """
        if sfreq in (0.0, model_sfreq):
            return cls(hop_s, delay_s, _JITTER_S)
        return cls(hop_s, delay_s + PolyphaseResampler(sfreq, model_sfreq).delay_s, _JITTER_S + 1 / model_sfreq)

    def after(self, t_newest: float, now: float) -> float:
        """Return for how many seconds no window will wait; 0 while one may.

        Args:
            t_newest: Stamp of the newest sample, in seconds.
            now: Seconds of the same clock.
        """
        since_s = (now - self.delay_s) % self.hop_s  # the end of the last window
        if t_newest < now - since_s + self.doubt_s:
            return 0.0
        return max(0.0, min(LONGEST_S, self.hop_s - since_s - _MARGIN_S))
