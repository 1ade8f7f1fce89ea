"""Medians, ratios and the machine's noise, and one way to print them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured thing: its samples, in ``unit``."""

    name: str
    unit: str
    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle sample."""
        return statistics.median(self.samples)

    @property
    def noise(self) -> float:
        """Half the distance between the quartiles, as a part of the median."""
        if len(self.samples) < 4:
            low, high = min(self.samples), max(self.samples)
        else:
            low, _, high = statistics.quantiles(self.samples, n=4)
        return (high - low) / 2 / self.median if self.median else 0.0

    def percentile(self, part: float) -> float:
        """Return the sample below which ``part`` of all lie."""
        ordered = sorted(self.samples)
        return ordered[min(len(ordered) - 1, int(part * len(ordered)))]

    def __str__(self) -> str:
        return (
            f"{self.name:<44} {self.median:>10.3f} {self.unit:<8} ±{self.noise:>4.0%}"
            f"  n={len(self.samples)}"
        )


def figure(name: str, unit: str, samples: Sequence[float]) -> Figure:
    """Return a figure, printed as it is made."""
    made = Figure(name, unit, tuple(samples))
    print(made, flush=True)
    return made


def ratio(name: str, mine: float, theirs: float, aim: str) -> None:
    """Print a ratio beside what is aimed at."""
    print(f"  = {name}: {mine / theirs:.2f}   (aim {aim})", flush=True)
