"""Limits of each client."""

import pytest

from serving.api.clients import Client, Clients, host_of
from serving.errors import Overloaded
from serving.limits import ClientLimits, parse_limits


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("ipv4:10.0.0.1:4711", "10.0.0.1"),
        ("ipv6:[::1]:4711", "::1"),
        ("ipv6:%5Bfe80::1%25eth0%5D:4711", "fe80::1%eth0"),
        ("unix:", "unix:"),
    ],
)
def test_a_client_without_a_token_is_its_host(peer: str, host: str) -> None:
    assert host_of(peer) == host


def test_calls_and_streams_in_flight_are_bounded() -> None:
    client = Client(ClientLimits(calls=2, streams=1), Clock())
    with client.call(streaming=True):
        with pytest.raises(Overloaded, match="1 streams in flight") as streams, client.call(streaming=True):
            pytest.fail("was admitted")
        assert streams.value.reason == "client_streams"
        with client.call():
            with pytest.raises(Overloaded, match="2 calls in flight") as calls, client.call():
                pytest.fail("was admitted")
            assert calls.value.reason == "client_calls"
    assert (client.calls, client.streams) == (0, 0)


def test_a_rate_says_when_to_return() -> None:
    clock = Clock()
    client = Client(ClientLimits(rate=2), clock)
    for _ in range(2):
        with client.call():
            pass
    with pytest.raises(Overloaded) as caught, client.call():
        pytest.fail("was admitted")
    assert caught.value.reason == "client_rate"
    assert caught.value.retry_after == pytest.approx(0.5)
    clock.now += 0.5
    with client.call():
        pass


def test_characters_are_a_rate_and_a_quota() -> None:
    clock = Clock()
    client = Client(ClientLimits(characters=100, quota=250), clock)
    client.spend(100)
    with pytest.raises(Overloaded) as caught:
        client.spend(10)
    assert caught.value.reason == "client_characters"
    assert caught.value.retry_after == pytest.approx(0.1)
    clock.now += 1
    client.spend(100)
    clock.now += 8
    with pytest.raises(Overloaded, match="200 of the 250 characters a day") as spent:
        client.spend(51)
    assert (spent.value.reason, spent.value.retry_after) == ("client_quota", 86_400 - 9)
    client.spend(50)
    clock.now += 86_400
    client.spend(50)


def test_clients_are_told_apart_and_some_have_limits_of_their_own() -> None:
    clients = Clients(ClientLimits(calls=1))
    a, b = clients.client("a"), clients.client("b")
    with a.call(), b.call(), pytest.raises(Overloaded), a.call():
        pytest.fail("was admitted")
    own = ClientLimits(calls=5)
    assert clients.client("c", own).limits == own
    assert clients.client("c", ClientLimits()).limits == ClientLimits(calls=1)
    assert clients.client("c") is clients.client("c")


def test_only_so_many_clients_are_remembered() -> None:
    clients = Clients(ClientLimits(quota=10))
    first = clients.client("0")
    for number in range(1, 10_000):
        clients.client(str(number))
    assert clients.client("0") is first
    clients.client("one more")
    clients.client("and another")
    assert clients.client("0") is first
    assert len(clients._clients) == 10_000


def test_limits_are_written_as_words() -> None:
    limits = parse_limits("calls=4 rate=0.5 characters=2000 quota=1000000 streams=2 beam=4")
    assert limits == ClientLimits(4, 2, 0.5, 2000.0, 1_000_000, 4)
    assert parse_limits(str(limits)) == limits
    assert parse_limits("").unlimited
    for wrong in ("call=4", "calls", "calls=", "calls=-1", "calls=1.5", "calls=1 calls=2", "rate=1.5.2", "rate=nan"):
        with pytest.raises(ValueError, match="limits are words like calls=4"):
            parse_limits(wrong)
