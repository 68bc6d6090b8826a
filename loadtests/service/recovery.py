"""Time that a server needs to recover from a spike of load."""

from __future__ import annotations

import math
from collections.abc import Sequence

from loadtests.service.calls import Call, latencies, percentile

_CALM = 3  # seconds in a row, so that one good second amid bad ones is not taken for the end


def recovery_seconds(calls: Sequence[Call], start: float, end: float) -> float:
    """Return the seconds from the end of a spike until latency is back to normal; infinite if it never was.

    A server has recovered when, for three seconds in a row, 90 % of the calls due in each are answered within the 99th
    percentile of the calls due before the spike. It lasts from ``start`` to ``end``, seconds from the start of the run.
    """
    limit = percentile(latencies(call for call in calls if call.due < start), 99)
    last = int(max(call.due for call in calls) - end)  # whole seconds seen after the spike
    calm = 0
    for second in range(last):
        due = latencies(call for call in calls if end + second <= call.due < end + second + 1)
        calm = calm + 1 if not due or percentile(due, 90) <= limit else 0
        if calm == _CALM:
            return float(second + 1 - _CALM)
    return math.inf
