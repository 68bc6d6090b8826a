"""Tokens of the hypotheses of a grid, none of which is moved when the beams are reordered."""

from __future__ import annotations

import numpy as np

from serving.step import Floats, Ints

_FIRST_TIME = 32  # target positions reserved at first; doubles


class Histories:
    """What each hypothesis has read, with log-probabilities and alignment.

    ``tokens[slot, beam, t]`` is the token that the row read at position t (t = 0: the start token), and
    ``ancestors[slot, beam, t]`` is the row that held the token of hypothesis ``beam`` at position t. A hypothesis is
    read by one gather, and reordering the beams moves this table only. Two beams over three steps:

        step  parents  tokens[:, t]   ancestors[0]   ancestors[1]   hypotheses
        1     0 0      the  a         0 0            0 1            the        a
        2     1 0      cat  dog       0 1 0          0 0 1          a cat      the dog
        3     0 0      sat  ran       0 1 0 0        0 1 0 1        a cat sat  a cat ran

    A row of the table is the parent's row with the beam's own number appended. At step 3 beam 1 continues beam 0: 0 1 0
    becomes 0 1 0 1, which reads "a", "cat", "ran" from rows 1, 0, 1 at t = 1, 2, 3. No token is moved.

    Attributes:
        tokens: Shape (slot, beam, time), int64.
        ancestors: -1 beyond a hypothesis. Shape (slot, beam, time), int64.
    """

    def __init__(self, beam: int, slots: int) -> None:
        self._rows, self._beams = np.arange(slots)[:, None], np.arange(beam)
        shape = (slots, beam, _FIRST_TIME)
        self.tokens = np.zeros(shape, dtype=np.int64)
        self.ancestors = np.full(shape, -1, dtype=np.int64)
        self._log_probs = np.zeros(shape, dtype=np.float32)
        self._alignment = np.zeros(shape, dtype=np.int64)

    @property
    def time(self) -> int:
        """Target positions that there is room for."""
        return self.tokens.shape[2]

    def start(self, slot: int, token: int) -> None:
        """Let all hypotheses of a slot begin with a token."""
        self.tokens[slot, :, 0] = token
        self.ancestors[slot] = -1
        self.ancestors[slot, :, 0] = self._beams

    def reserve(self, time: int) -> None:
        """Make room for ``time`` target positions."""
        if time > self.time:
            grow = ((0, 0), (0, 0), (0, max(time, 2 * self.time) - self.time))
            self.tokens = np.pad(self.tokens, grow)
            self.ancestors = np.pad(self.ancestors, grow, constant_values=-1)
            self._log_probs = np.pad(self._log_probs, grow)
            self._alignment = np.pad(self._alignment, grow)

    def last(self, positions: Ints) -> Ints:
        """Return the tokens that rows read at the positions (slot,) of the first slots. Shape (slot, beam), int64."""
        last: Ints = self.tokens[self._rows[: positions.size], self._beams, positions[:, None]]
        return last

    def produced(self, slots: int, time: int) -> Ints:
        """Return the first ``time`` tokens of the first slots' hypotheses. Shape (slot, beam, time), int64."""
        # Position 0 holds the start token, which no hypothesis produced. Beyond a hypothesis any row serves.
        ancestors = np.maximum(self.ancestors[:slots, :, 1 : time + 1], 0)
        return np.take_along_axis(self.tokens[:slots, :, 1 : time + 1], ancestors, axis=1)

    def extend(self, positions: Ints, parents: Ints, tokens: Ints, log_probs: Floats, alignment: Ints) -> None:
        """Let each beam of the first slots go on from a parent; shapes (slot, beam), positions (slot,) are the new."""
        n, rows = positions.size, self._rows[: positions.size]
        # Gather each beam's history from its parent. The right-hand side is a copy, so no row is overwritten too early.
        width = int(positions.max())
        self.ancestors[:n, :, :width] = self.ancestors[rows, parents, :width]
        here = rows, self._beams, positions[:, None]
        self.ancestors[here] = self._beams
        self.tokens[here] = tokens
        self._log_probs[here] = log_probs
        self._alignment[here] = alignment

    def read(self, slot: int, ancestors: Ints, first: int, stop: int) -> tuple[list[int], list[float], list[int]]:
        """Return tokens, log-probabilities and alignment between two positions, of a row of the table.

        Shape of ``ancestors``: (time,), int64.
        """
        at = slot, ancestors[first:stop], np.arange(first, stop)
        return self.tokens[at].tolist(), self._log_probs[at].tolist(), self._alignment[at].tolist()

    def keep(self, sources: Ints, targets: Ints) -> None:
        """Copy slots ``sources`` to slots ``targets``. Shapes (move,), int64."""
        for array in (self.tokens, self.ancestors, self._log_probs, self._alignment):
            array[targets] = array[sources]
