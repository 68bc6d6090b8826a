"""Answers in order, a bounded window, endless input."""

import itertools
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from serving.client.pipeline import in_order


def test_answers_keep_the_order_of_the_items_whatever_finishes_first() -> None:
    done = [threading.Event() for _ in range(4)]

    def work(number: int) -> int:
        if number < 3:
            done[number + 1].wait(10)  # the last one finishes first
        done[number].set()
        return number * 10

    assert list(in_order(range(4), work, in_flight=4)) == [(0, 0), (1, 10), (2, 20), (3, 30)]


def test_nothing_in_gives_nothing_out() -> None:
    assert list(in_order((), str, in_flight=3)) == []


def test_endless_items_are_read_no_further_than_the_window() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in itertools.count():
            taken.append(number)
            yield number

    with closing(in_order(items(), str, in_flight=5)) as answers:
        for expected in range(100):
            assert next(answers) == (expected, str(expected))
            # Five unanswered, the one just answered, and the one that waits for its place.
            assert len(taken) <= expected + 7


def test_an_answer_does_not_wait_for_the_next_item() -> None:
    typed = threading.Event()

    def items() -> Iterator[str]:
        yield "first"
        typed.wait(10)
        yield "second"

    with closing(in_order(items(), str.upper, in_flight=4)) as answers:
        assert next(answers) == ("first", "FIRST")
        assert not typed.is_set()
        typed.set()
        assert list(answers) == [("second", "SECOND")]


def test_what_the_items_raise_comes_after_the_answers_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("unreadable")

    with closing(in_order(items(), str, in_flight=4)) as answers:
        assert next(answers) == (1, "1")
        with pytest.raises(OSError, match="unreadable"):
            next(answers)


def test_what_the_work_raises_comes_in_its_place() -> None:
    with closing(in_order([2, 1, 0], lambda number: 2 // number, in_flight=4)) as answers:
        assert [next(answers), next(answers)] == [(2, 1), (1, 2)]
        with pytest.raises(ZeroDivisionError):
            next(answers)


def test_closing_starts_no_further_work() -> None:
    begun: list[int] = []
    with closing(in_order(itertools.count(), begun.append, in_flight=2)) as answers:
        next(answers)
    settled = len(begun)
    assert settled <= 4
    for thread in threading.enumerate():
        if thread.name == "feed":
            thread.join(10)
            assert not thread.is_alive()
    assert len(begun) <= settled + 2
