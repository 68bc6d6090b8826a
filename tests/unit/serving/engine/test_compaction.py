from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from serving.engine.compaction import compaction


@given(st.lists(st.booleans(), max_size=40))
def test_holes_are_filled_from_the_tail_with_the_fewest_moves(freed: list[bool]) -> None:
    gone = np.flatnonzero(freed)
    order = compaction(len(freed), gone)
    stay = np.arange(order.size)
    assert sorted(order.tolist()) == [slot for slot, is_freed in enumerate(freed) if not is_freed]
    assert (order >= stay).all()
    # A kept slot below the new size never moves; only holes are filled.
    assert ((order == stay) == ~np.array(freed[: order.size], dtype=bool)).all()


def test_an_example() -> None:
    assert compaction(6, np.array([1, 4])).tolist() == [0, 5, 2, 3]
