"""Where a token may go."""

import pytest

from serving.client.credentials import authorization


@pytest.mark.parametrize(
    ("server", "allowed"),
    [
        ("127.0.0.1:50051", True),
        ("127.8.9.1:50051", True),
        ("[::1]:50051", True),
        ("localhost:50051", True),
        ("unix:/run/dragoman.sock", True),
        ("dns:///localhost:50051", True),
        ("10.0.0.1:50051", False),
        ("server:50051", False),
        ("localhost.example:50051", False),
        ("0.0.0.0:50051", False),
        ("ipv4:127.0.0.1:1,10.0.0.1:1", False),
        (":50051", False),
    ],
)
def test_in_the_clear_it_stays_on_this_machine(server: str, allowed: bool) -> None:
    sent = (("authorization", "Bearer t"),)
    if allowed:
        assert authorization("t", server, encrypted=False) == sent
    else:
        with pytest.raises(ValueError, match=r"would go to .* in the clear"):
            authorization("t", server, encrypted=False)
    assert authorization("t", server, encrypted=True) == sent
    assert authorization("t", server, encrypted=False, in_clear=True) == sent
    assert authorization(None, server, encrypted=False) == ()


@pytest.mark.parametrize("token", ["", "two words", "line\n", "ü"])
def test_what_cannot_be_a_token_is_refused_without_quoting_it(token: str) -> None:
    with pytest.raises(ValueError, match="the token is empty or holds characters"):
        authorization(token, "localhost:1", encrypted=True)
