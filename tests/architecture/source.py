"""The repository's own source as the architecture tests read it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("training", "export", "serving")
GENERATED = ROOT / "serving" / "pb"

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Definition:
    """A function or class with the names it is reached by."""

    path: str
    qualified_name: str
    node: Function | ast.ClassDef
    owner: ast.ClassDef | None

    @property
    def is_public(self) -> bool:
        """No part of its name begins with an underscore."""
        return not any(part.startswith("_") for part in self.qualified_name.split("."))

    def __str__(self) -> str:
        return f"{self.path}:{self.node.lineno} {self.qualified_name}"


def modules(*folders: str) -> list[Path]:
    """Every Python file of some folders that a person wrote."""
    return sorted(
        path for folder in folders for path in (ROOT / folder).rglob("*.py") if not path.is_relative_to(GENERATED)
    )


@cache
def parsed(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def definitions(path: Path) -> Iterator[Definition]:
    """Functions, classes and methods of a file; what is local to a function is not reached from outside."""
    yield from _definitions(path, parsed(path).body, prefix="", owner=None)


def _definitions(path: Path, body: list[ast.stmt], prefix: str, owner: ast.ClassDef | None) -> Iterator[Definition]:
    for node in body:
        if isinstance(node, Function | ast.ClassDef):
            name = f"{prefix}{node.name}"
            yield Definition(str(path.relative_to(ROOT)), name, node, owner)
            if isinstance(node, ast.ClassDef):
                yield from _definitions(path, node.body, f"{name}.", node)
