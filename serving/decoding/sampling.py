"""Sampling: one random candidate instead of the best, determined by the request's seed alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from serving.step import Floats, Ints


def uniform(seeds: Ints, positions: Ints) -> NDArray[np.float64]:
    """Return one number in [0, 1) per seed and target position, independent of the rest of the batch.

    Source: splitmix64, Steele et al. 2014, "Fast splittable pseudorandom number generators".

    Args:
        seeds: Seeds of the requests. Shape (slot,), int64.
        positions: Target positions. Shape (slot,), int64.

    Returns:
        Shape (slot,), float64.
    """
    with np.errstate(over="ignore"):
        z = _mix(seeds.astype(np.uint64)) + positions.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        # The upper 53 bits fill a float64's mantissa: 2**53 equally spaced numbers.
        return (_mix(z) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = z + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def choose(log_probs: Floats, temperatures: Floats, top_k: Ints, top_p: Floats, draws: NDArray[np.float64]) -> Ints:
    """Draw one candidate per slot from its distribution after temperature, top-k and top-p.

    Top-p keeps the smallest set whose probability reaches p (nucleus sampling, Holtzman et al. 2020), after top-k and
    the temperature. Sums run in rank order, so candidates past a slot's own ``top_k`` change nothing.

    Args:
        log_probs: Log-probabilities, best first. Shape (slot, candidate), float32, in nats.
        temperatures: Divisors of log-probabilities, > 0. Shape (slot,), float32.
        top_k: Numbers of candidates kept; 0 keeps all. Shape (slot,), int64.
        top_p: Probabilities to reach, in (0, 1]. Shape (slot,), float32.
        draws: Random numbers in [0, 1). Shape (slot,), float64.

    Returns:
        Rank of the chosen candidate. Shape (slot,), int64.
    """
    scaled = log_probs.astype(np.float64) / temperatures[:, None]
    weights = np.exp(scaled - scaled[:, :1])
    ranks = np.arange(log_probs.shape[1])
    weights[(top_k[:, None] > 0) & (ranks >= top_k[:, None])] = 0.0
    total = np.cumsum(weights, axis=1)
    # Drop a candidate if those before it reach p already; the best one has none before it and stays.
    outside = (total - weights) >= top_p[:, None].astype(np.float64) * total[:, -1:]
    weights[outside] = 0.0
    total = np.cumsum(weights, axis=1)
    # Inverse of the cumulative distribution: the candidates whose sum the draw has passed are skipped.
    rank: Ints = np.sum(total <= draws[:, None] * total[:, -1:], axis=1, dtype=np.int64)
    return rank
