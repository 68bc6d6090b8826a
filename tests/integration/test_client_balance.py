"""A client over two replicas: they take turns, and one that drains is left alone."""

import asyncio

from serving.client import AsyncTranslationClient
from tests.integration.toy_server import Toy, eventually, serving


def calls(toy: Toy, code: str) -> float:
    labels = {"grpc_service": "dragoman.v1.TranslationService", "grpc_method": "Translate", "grpc_type": "unary"}
    return toy.sample("grpc_server_handled_total", **labels, grpc_code=code) or 0.0


async def test_calls_take_turns_and_avoid_the_replica_that_drains() -> None:
    async with serving() as first, serving() as second:
        both = ",".join(f"127.0.0.1:{toy.server.port}" for toy in (first, second))
        async with AsyncTranslationClient(f"ipv4:{both}", balance=True) as client:
            await client.translate(["a"])

            async def both_are_connected() -> None:
                while not (calls(first, "OK") and calls(second, "OK")):
                    await client.translate(["a"])

            async with asyncio.timeout(30):
                await both_are_connected()
            before = calls(first, "OK"), calls(second, "OK")
            for _ in range(10):
                await client.translate(["b"])
            assert (calls(first, "OK") - before[0], calls(second, "OK") - before[1]) == (5, 5)

            draining = asyncio.create_task(first.server.drain())
            await eventually(lambda: first.sample("dragoman_model_draining", model="toy/1") == 1)
            before = calls(first, "OK"), calls(second, "OK")
            await asyncio.gather(*(client.translate([f"{number}"]) for number in range(20)))
            assert (calls(first, "OK") - before[0], calls(second, "OK") - before[1]) == (0, 20)
            assert await draining


async def test_without_balance_one_replica_gets_all_calls() -> None:
    async with serving() as first, serving() as second:
        both = ",".join(f"127.0.0.1:{toy.server.port}" for toy in (first, second))
        async with AsyncTranslationClient(f"ipv4:{both}") as client:
            for _ in range(4):
                await client.translate(["a"])
        assert {calls(first, "OK"), calls(second, "OK")} == {0, 4}
