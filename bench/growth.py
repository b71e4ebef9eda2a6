# SPDX-License-Identifier: MIT
"""How fast a cost grows: its exponent, the slope of log(cost) against log(n). Knows nothing of who measured."""

import math


def slope(points):
    """The exponent of the power law that fits [(n, cost), ...] best, by least squares of the logarithms.

    1 is linear, 0 constant. Raises ValueError where no line can be fitted: fewer than two different n, or a value that
    has no logarithm.
    """
    if any(n <= 0 or cost <= 0 for n, cost in points):
        raise ValueError(f"only values above 0 have a logarithm: {points}")
    xs = [math.log(n) for n, _ in points]
    ys = [math.log(cost) for _, cost in points]
    if len(set(xs)) < 2:
        raise ValueError(f"a slope needs two different n: {points}")
    x_mean, y_mean = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - x_mean) ** 2 for x in xs)
    return sum((x - x_mean) * (y - y_mean) for x, y in zip(xs, ys)) / spread


def judge(points, ceiling):
    """-> {"slope": over all, "slope_of_largest": over the upper half, "ceiling", "met"}

    A fixed cost flattens the small n and would hide a term that grows too fast; among the largest it shows. So both
    slopes have to be below the ceiling.
    """
    ordered = sorted(points)
    whole = slope(ordered)
    largest = slope(ordered[-max(2, (len(ordered) + 1) // 2) :])
    return {"slope": whole, "slope_of_largest": largest, "ceiling": ceiling, "met": max(whole, largest) <= ceiling}
