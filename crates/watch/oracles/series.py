"""The numbers that oracles and tests are made of: the same SplitMix64 as `watch::Seeded`, and only operations that every
machine rounds alike, so that a golden file holds seeds and results and no data."""

import numpy as np

GAMMA = np.uint64(0x9E3779B97F4A7C15)


def units(seed: int, n: int) -> np.ndarray:
    """`n` numbers in [0, 1)."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, n + 1, dtype=np.uint64) * GAMMA
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(11)).astype(np.float64) / float(1 << 53)


def column(kind: str, seed: int, n: int, shift: float) -> np.ndarray:
    """A column of numbers: `bell` (six units less three), `ties` (its halves), `heavy` (u / (1 - u))."""
    if kind == "heavy":
        u = units(seed, n)
        return u / (1.0 - u) + shift
    u = units(seed, 6 * n).reshape(n, 6)
    bell = ((((u[:, 0] + u[:, 1]) + u[:, 2]) + u[:, 3]) + u[:, 4]) + u[:, 5]
    bell = bell - 3.0 + shift
    return np.floor(bell * 2.0) if kind == "ties" else bell


def scored(seed: int, n: int, steps: int):
    """Scores in steps of 1/`steps`, and labels that come up with the probability of the score's middle half."""
    u = units(seed, 2 * n).reshape(n, 2)
    score = np.floor(u[:, 0] * steps) / steps
    return score, (u[:, 1] < 0.25 + score / 2.0).astype(int)
