"""Slopes with a range that they are in with 95 %: least squares, its range widened for samples that follow each other, and Theil–Sen."""

import math
import statistics


def least_squares(xs, ys):
    """Slope and half the width of its 95 % range. Samples are taken for as many as their autocorrelation leaves independent ones."""
    n = len(xs)
    if n < 4:
        return 0.0, math.inf
    mx, my = statistics.fmean(xs), statistics.fmean(ys)
    sxx = sum((x - mx) ** 2 for x in xs)
    slope = sum((x - mx) * (y - my) for x, y in zip(xs, ys)) / sxx
    rest = [y - my - slope * (x - mx) for x, y in zip(xs, ys)]
    var = sum(r * r for r in rest)
    if var == 0:
        return slope, 0.0
    r1 = max(0.0, min(0.99, sum(a * b for a, b in zip(rest, rest[1:])) / var))
    effective = max(3.0, n * (1 - r1) / (1 + r1))
    error = math.sqrt(var / (n - 2) / sxx * n / effective)
    return slope, student(effective - 2) * error


def student(freedom):
    """The 97.5 % point of Student's t, near enough."""
    f = max(1.0, freedom)
    z = 1.959964
    return min(12.71, z + (z**3 + z) / (4 * f) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * f * f))


def theil_sen(xs, ys):
    """The median of all slopes between two samples, and the 95 % range by ranks (Sen 1968)."""
    n = len(xs)
    slopes = sorted((ys[j] - ys[i]) / (xs[j] - xs[i]) for i in range(n) for j in range(i + 1, n) if xs[j] > xs[i])
    if not slopes:
        return 0.0, -math.inf, math.inf
    c = 1.96 * math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    low = max(0, int((len(slopes) - c) / 2))
    high = min(len(slopes) - 1, int((len(slopes) + c) / 2))
    return statistics.median(slopes), slopes[low], slopes[high]


def verdict(xs, ys):
    """Of hours and values: mean, both slopes with ranges, and what a slope makes of the mean in an hour."""
    slope, half = least_squares(xs, ys)
    sen, low, high = theil_sen(xs, ys)
    mean = statistics.fmean(ys) if ys else 0.0
    return {"mean": mean, "first": ys[0], "last": ys[-1], "max": max(ys), "slope": slope, "half": half, "sen": sen, "sen_low": low, "sen_high": high}
