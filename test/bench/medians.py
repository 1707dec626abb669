# SPDX-License-Identifier: GPL-2.0-or-later
"""Medians of few noisy runs, and how far they can be believed."""
import math
import statistics


def median_interval(values):
    """(low, median, high): the order statistics that hold the true median in 95 % of all cases.

    With fewer than six values no two of them do; then they are the extremes.
    """
    ordered = sorted(values)
    reach = 0.98 * math.sqrt(len(ordered))
    low = max(0, math.floor(len(ordered) / 2 - reach))
    high = min(len(ordered) - 1, math.ceil(len(ordered) / 2 + reach) - 1)
    return ordered[low], statistics.median(ordered), ordered[high]
