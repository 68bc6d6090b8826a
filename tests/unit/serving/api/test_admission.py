"""Which calls may begin."""

import asyncio

import pytest

from serving.api.admission import Admission, Phase
from serving.errors import Overloaded, Unavailable


@pytest.mark.parametrize("phase", [Phase.LOADING, Phase.DRAINING])
async def test_only_a_serving_server_takes_calls(phase: Phase) -> None:
    admission = Admission(max_calls=1)
    admission.phase = phase
    with pytest.raises(Unavailable) as caught, admission.call():
        pytest.fail("was admitted")
    assert caught.value.reason == phase
    assert caught.value.retry_after > 0


async def test_calls_in_flight_are_bounded_and_counted() -> None:
    admission = Admission(max_calls=2)
    admission.phase = Phase.SERVING
    with admission.call(), admission.call():
        assert admission.in_flight == 2
        with pytest.raises(Overloaded, match="the limit is 2") as caught, admission.call():
            pytest.fail("was admitted")
        assert caught.value.reason == "calls_full"
    assert admission.in_flight == 0
    with admission.call():
        assert admission.in_flight == 1


async def test_memory_above_the_watermark_lets_one_call_through_at_a_time() -> None:
    used = 5 << 20
    admission = Admission(max_calls=9, max_memory_bytes=6 << 20, resident=lambda: used)
    admission.phase = Phase.SERVING
    with admission.call(), admission.call():
        used = 7 << 20
        with pytest.raises(Overloaded, match="7 MiB of memory, at most 6 MiB") as caught, admission.call():
            pytest.fail("was admitted")
        assert caught.value.reason == "memory_full"
    with admission.call():
        assert admission.in_flight == 1


async def test_a_server_that_leaves_still_takes_calls() -> None:
    admission = Admission(max_calls=1)
    admission.phase = Phase.LEAVING
    with admission.call():
        assert admission.in_flight == 1


async def test_idle_comes_when_the_last_call_ends() -> None:
    admission = Admission(max_calls=2)
    admission.phase = Phase.SERVING
    assert await admission.idle(timeout=0.0)
    with admission.call():
        assert not await admission.idle(timeout=0.0)
        waiter = asyncio.create_task(admission.idle(timeout=60.0))
        await asyncio.sleep(0)
        assert not waiter.done()
    assert await waiter


async def test_a_failing_call_gives_its_place_back() -> None:
    admission = Admission(max_calls=1)
    admission.phase = Phase.SERVING
    with pytest.raises(KeyError), admission.call():
        raise KeyError
    assert admission.in_flight == 0


async def test_the_rate_limit_refuses_calls() -> None:
    admission = Admission(max_calls=9, max_calls_per_second=1.0)
    admission.phase = Phase.SERVING
    with admission.call():
        pass
    with pytest.raises(Overloaded) as caught, admission.call():
        pytest.fail("was admitted")
    assert caught.value.reason == "rate_limit"
    assert 0 < caught.value.retry_after <= 1
