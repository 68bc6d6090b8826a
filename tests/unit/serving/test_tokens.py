"""The file of tokens, and the command that makes a line of it."""

from pathlib import Path

import pytest

from serving import cli
from serving.api.access import Access
from serving.errors import StartupError
from serving.tokens import Role, find_token, new_token, read_tokens


def test_a_new_token_is_found_by_its_line_alone(tmp_path: Path) -> None:
    made = [new_token(name, role) for name in ("a", "B-2.c_d") for role in (Role.TRANSLATE,)]
    path = tmp_path / "tokens"
    path.write_text("# comment\n\n" + "\n".join(line for _, line in made))
    tokens = read_tokens(path)
    for (token, line), read in zip(made, tokens, strict=True):
        assert find_token(token, tokens) is read
        assert token not in path.read_text()
        assert line.split()[0] == read.name
        assert len(token) >= 43  # 256 bits
        for other in (token[:-1], token + "=", token.swapcase(), "", "\udcff", "ü"):
            assert find_token(other, tokens) is None
    assert find_token(made[0][0], ()) is None


@pytest.mark.parametrize("name", ["", "two words", "ü", "-x", "x" * 65, "a\nb translate " + "0" * 64, "#x"])
def test_a_name_that_would_break_the_file_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is not a name for a token"):
        new_token(name, Role.ADMIN)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("secret", "line 2 is not NAME ROLE SHA256"),
        ("x root " + "0" * 64, "line 2 is not"),
        ("x admin " + "0" * 63, "line 2 is not"),
        ("x admin " + "0" * 64 + " more", "line 2 is not"),
        ("x admin " + "0" * 64 + " call=1", "line 2: limits are words like calls=4"),
        ("first admin " + "0" * 64, "line 2 has the name of another token"),
    ],
)
def test_a_wrong_line_is_named_and_not_quoted(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "tokens"
    path.write_text(f"first translate {'1' * 64}\n{line}\n")
    with pytest.raises(StartupError, match=message) as caught:
        Access({"service"}, "admin", path)
    assert line not in str(caught.value)


def test_a_line_may_have_limits(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text(f"a translate {'0' * 64} calls=3 rate=0.5\nb admin {'1' * 64}\n")
    first, second = read_tokens(tmp_path / "tokens")
    assert (first.limits.calls, first.limits.rate) == (3, 0.5)
    assert second.limits.unlimited


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="cannot use the tokens of"):
        Access({"service"}, "admin", tmp_path / "absent")


def test_the_command_prints_a_token_and_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["token", "new", "--name", "web", "--role", "translate"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    path = tmp_path / "tokens"
    path.write_text(second.removeprefix("line for --tokens FILE: "))
    (token,) = read_tokens(path)
    assert (token.name, token.role) == ("web", Role.TRANSLATE)
    assert find_token(first.removeprefix("token, shown only now: "), [token])


@pytest.mark.parametrize(
    "arguments", [[], ["new"], ["new", "--name", "web", "--role", "root"], ["new", "--name", "a b", "--role", "admin"]]
)
def test_a_wrong_command_is_told_so(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["token", *arguments])
    assert "usage: dragoman-serve token" in capsys.readouterr().err
