"""What was found wrong on the way through a file."""

from __future__ import annotations

from dataclasses import dataclass, field

from clmer_streaming.xdf.description import StreamDescription


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes that could not be used."""

    at: int  # byte in the file
    n_bytes: int
    stream: StreamDescription | None  # whose chunk it was, where that could be read


@dataclass(eq=False)
class ScanReport:
    """What was found wrong on the way."""

    n_bytes: int  # of the file
    n_used: int = 0  # bytes of the file that belong to whole, intact chunks of known streams
    damage: list[Damage] = field(default_factory=list)
    cut_off: bool = False  # the file ends within a chunk
    headless: set[int] = field(default_factory=set)  # stream ids with samples and no readable header
    notes: list[str] = field(default_factory=list)  # sentences about headers

    def warnings(self) -> list[str]:
        """Return sentences for people."""
        warnings = list(self.notes)
        if self.damage:
            warnings.append(
                f"The file is damaged in {len(self.damage)} place(s), first at byte {self.damage[0].at}; "
                f"{sum(place.n_bytes for place in self.damage)} bytes around the damage were left out."
            )
        if self.cut_off:
            warnings.append("The file is cut off within its last chunk.")
        if self.headless:
            ids = ", ".join(map(str, sorted(self.headless)))
            warnings.append(f"Samples of stream id {ids} were left out, because that stream has no readable header.")
        return warnings
