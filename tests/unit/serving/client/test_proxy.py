import pytest

from serving.client.proxy import proxy_for

PROXY = "http://proxy.example.com:3128"


@pytest.mark.parametrize(
    "target",
    [
        "127.0.0.1:50051",
        "localhost:50051",
        "[::1]:50051",
        "ipv6:%5B::1%5D:50051",
        "10.1.2.3:50051",
        "192.168.1.9:50051",
        "172.17.0.2:50051",
        "169.254.1.1:50051",
        "[fd00::1]:50051",
        "ipv4:10.0.0.1:50051,10.0.0.2:50051",
        "dragoman:50051",
        "dns:///dragoman.translation.svc.cluster.local:50051",
        "dns://8.8.8.8/dragoman.translation.svc:50051",
        "Host.Internal:50051",
        "unix:/run/dragoman.sock",
        "unix-abstract:dragoman",
    ],
)
def test_loopback_and_private_names_are_reached_directly(target: str) -> None:
    assert proxy_for(target, {"http_proxy": PROXY}) == ""


@pytest.mark.parametrize(
    "target",
    [
        "translate.example.com:443",
        "dns:///translate.example.com:443",
        "8.8.8.8:443",
        "[2001:4860:4860::8888]:443",
        "ipv4:10.0.0.1:50051,8.8.8.8:50051",
        "notlocal.com:443",
    ],
)
def test_others_are_reached_through_the_proxy(target: str) -> None:
    assert proxy_for(target, {"http_proxy": PROXY}) == PROXY
    assert proxy_for(target, {}) == ""


def test_the_first_variable_that_is_set_counts() -> None:
    assert proxy_for("a.example:1", {"http_proxy": "http://a", "https_proxy": "http://b"}) == "http://b"
    assert proxy_for("a.example:1", {"http_proxy": "http://a", "grpc_proxy": ""}) == ""


@pytest.mark.parametrize(
    ("target", "exceptions"),
    [
        ("translate.example.com:443", ".example.com"),
        ("translate.example.com:443", "other.org, EXAMPLE.com"),
        ("translate.example.com:443", "*"),
        ("8.8.8.8:443", "8.8.8.8"),
        ("8.8.8.8:443", "8.0.0.0/8"),
    ],
)
def test_exceptions_are_reached_directly(target: str, exceptions: str) -> None:
    assert proxy_for(target, {"http_proxy": PROXY, "no_proxy": exceptions}) == ""
    assert proxy_for(target, {"http_proxy": PROXY, "no_proxy": exceptions, "no_grpc_proxy": "9.0.0.0/8,x/y"}) == PROXY
