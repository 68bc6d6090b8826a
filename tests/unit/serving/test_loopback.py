import pytest

from serving.loopback import is_foreign_host, is_loopback_host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback(host: str) -> None:
    assert is_loopback_host(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.1", "::", "example", "localhost.example"])
def test_not_loopback(host: str) -> None:
    assert not is_loopback_host(host)


@pytest.mark.parametrize("header", ["", "localhost", "LOCALHOST:80", "127.0.0.1:80", "[::1]", "a.localhost", "box:1"])
def test_own_names_and_addresses_are_not_foreign(header: str) -> None:
    assert not is_foreign_host(header, {"box"})


@pytest.mark.parametrize("header", ["box.example", "evil", "[", "[::1", "127.0.0.1.evil", "localhost@evil:1", "\0"])
def test_names_of_others_are_foreign(header: str) -> None:
    assert is_foreign_host(header, {"box"})
