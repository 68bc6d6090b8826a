"""The learning rate at each step."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ScheduleSettings:
    """Inverse-square-root schedule with linear warm-up (Vaswani et al. 2017, section 5.3) and optional cooldown.

    Attributes:
        peak: Learning rate at the end of the warm-up.
        warmup_steps: Steps of linear growth.
        cooldown: Share of ``total_steps`` at the end over which the rate falls linearly to zero; 0 for none.
        total_steps: Steps of the whole run; only the cooldown looks at it.
    """

    peak: float = 1e-3
    warmup_steps: int = 1000
    cooldown: float = 0.0
    total_steps: int = 0


def learning_rate(step: int, settings: ScheduleSettings) -> float:
    """Learning rate of an optimizer step.

    Args:
        step: Number of steps taken before, from 0.
        settings: Shape of the curve.

    Returns:
        peak x min((step + 1) / warmup, sqrt(warmup / (step + 1))), times the cooldown's factor.
    """
    now, warmup = step + 1, max(1, settings.warmup_steps)
    rate = settings.peak * min(now / warmup, math.sqrt(warmup / now))
    if settings.cooldown > 0.0:
        rate *= min(1.0, max(0.0, settings.total_steps - step) / max(1.0, settings.cooldown * settings.total_steps))
    return rate
