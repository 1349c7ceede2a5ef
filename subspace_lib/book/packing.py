"""Series of numbers as text: thinned, and two characters a number.

A number is one of 91² levels between a series' smallest and its largest, on a logarithmic scale where all
are positive: an error below 6e-4 for four decades, 6e-5 of the range on a linear scale.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

# Of one byte each, and none that JSON writes as two.
DIGITS = "".join(chr(code) for code in range(35, 127) if chr(code) != "\\")
BASE = len(DIGITS)
LEVELS = BASE**2 - 1
DENSER = 1.5  # than evenly at the start of a series; 1 would be even
SHORT = 6  # digits of a series' ends


def known(series: pd.Series) -> pd.Series:
    """The rows that have a number, each step once."""
    series = series[np.isfinite(series.to_numpy(float))]
    return series[~series.index.duplicated(keep="last")]


def thin(series: pd.Series, points: int) -> pd.Series:
    """At most so many rows, the first and the last among them.

    The j-th of n is the row at (j/(n − 1))^1.5 of the series, or the j-th where that is later: most of the
    early ones, where a loss falls, and fewer and fewer later.
    """
    if len(series) <= points:
        return series
    counted = np.arange(points)
    spread = np.round((len(series) - 1) * (counted / (points - 1)) ** DENSER).astype(int)
    return series.iloc[np.maximum(counted, spread)]


def pack(values: NDArray[np.float64]) -> tuple[float, float, bool, str]:
    """Smallest and largest value, whether the scale is logarithmic, and two characters a value."""
    log = bool((values > 0).all())
    scaled = np.log(values) if log else values
    low, high = short(float(scaled.min())), short(float(scaled.max()))
    places = (scaled - low) / ((high - low) or 1.0) * LEVELS
    levels = np.round(places).astype(int).clip(0, LEVELS)
    return low, high, log, "".join(DIGITS[n // BASE] + DIGITS[n % BASE] for n in levels)


def unpack(low: float, high: float, log: bool, text: str) -> NDArray[np.float64]:
    """The values that ``pack`` was given, within its error; the page's script does the same."""
    n = [DIGITS.index(c) for c in text]
    levels = np.array([BASE * a + b for a, b in zip(*[iter(n)] * 2, strict=True)])
    scaled = low + levels / LEVELS * (high - low)
    return np.exp(scaled) if log else scaled


def differences(steps: Sequence[int]) -> list[int]:
    """The first step, and the differences from each to the next: shorter in JSON."""
    return [steps[0], *(b - a for a, b in itertools.pairwise(steps))]


def short(value: float, digits: int = SHORT) -> float:
    """So many significant digits."""
    return float(f"{value:.{digits}g}")
