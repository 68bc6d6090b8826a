"""gRPC ignores an option that it does not know, without a word."""

import ast
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FOLDERS = ("serving", "loadtests", "scripts", "tests")
OPTION = re.compile(r"grpc(\.[a-z0-9_]+)+")


def names(path: Path) -> Iterator[str]:
    """The strings of a module that are the first of a pair, as the name of an option is."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Tuple) and len(node.elts) == 2 and isinstance(node.elts[0], ast.Constant):
            name = node.elts[0].value
            if isinstance(name, str) and OPTION.fullmatch(name):
                yield name


OPTIONS = sorted({name for folder in FOLDERS for path in ROOT.joinpath(folder).rglob("*.py") for name in names(path)})


def test_there_are_options_to_check() -> None:
    assert {"grpc.so_reuseport", "grpc.enable_retries", "grpc.keepalive_time_ms"} <= set(OPTIONS)


@pytest.fixture(scope="module")
def binary() -> bytes:
    spec = find_spec("grpc._cython.cygrpc")
    assert spec
    assert spec.origin
    return Path(spec.origin).read_bytes()


@pytest.mark.parametrize("option", OPTIONS)
def test_grpc_knows_every_option_that_is_set(binary: bytes, option: str) -> None:
    assert f"{option}\0".encode() in binary
