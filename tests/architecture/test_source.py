"""Sizes, names, docstrings and annotations: what keeps the source readable."""

import ast
import re
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from tests.architecture.source import PACKAGES, ROOT, Definition, Function, definitions, modules, parsed

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60

VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "misc"}

# Arrays themselves; what holds arrays, such as a Batch or a dict, documents them where it is defined.
ARRAYS = re.compile(r"(tuple\[)?(np\.)?(Ints|Floats|Bools|NDArray|ndarray|(torch\.)?Tensor)\b")

# "Shape (slot, beam)", axes in the sentence, such as "`ids` (slot, time)", or where the reader finds them.
SHAPES = re.compile(r"[Ss]hape|\(\w+(, ?[\w.]+)*,?\)|[Ss]ee :(class|meth|func):")

ALL = [definition for path in modules(*PACKAGES) for definition in definitions(path)]


def test_there_is_something_to_check() -> None:
    assert len(ALL) > 100


def test_no_file_is_long() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in modules(*PACKAGES, "loadtests", "scripts")}
    assert not {str(path.relative_to(ROOT)): n for path, n in lengths.items() if n > MAX_FILE_LINES}


def test_no_function_is_long() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path in modules(*PACKAGES, "loadtests", "scripts")
        for node in ast.walk(parsed(path))
        if isinstance(node, Function) and node.end_lineno and node.end_lineno - node.lineno >= MAX_FUNCTION_LINES
    ]
    assert not long, "\n".join(long)


@pytest.mark.parametrize("folder", [*PACKAGES, "loadtests", "scripts", "tests"])
def test_module_names_say_something(folder: str) -> None:
    names = {path.stem if path.stem != "__init__" else path.parent.name for path in modules(folder)}
    assert not names & VAGUE_NAMES
    assert not {name for name in names if name in sys.stdlib_module_names and not name.startswith("__")}


def test_one_module_puts_a_model_together() -> None:
    """Each way from a bundle to a translator of its own is one more to forget the tokenizer's kind in."""
    parts = {
        "serving.bundle.tokenizer.SubwordTokenizer",
        "serving.engine.engine.Engine",
        "serving.engine.translator.Translator",
    }
    places = {name: {path for path in modules(*PACKAGES, "loadtests") if name in _called(path)} for name in parts}
    assert places == {name: {ROOT / "serving" / "opening.py"} for name in parts}


def _called(path: Path) -> set[str]:
    """Whatever a module imports by name and calls, as ``module.name``."""
    nodes = list(ast.walk(parsed(path)))
    origins = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in nodes
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    called = {node.func.id for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    return {origin for name, origin in origins.items() if name in called}


def test_no_two_public_classes_share_a_name() -> None:
    places = defaultdict[str, list[str]](list)
    for definition in ALL:
        # The client's errors are those that callers catch; the server's own bear the same names on its side.
        if isinstance(definition.node, ast.ClassDef) and definition.path != "serving/client/errors.py":
            places[definition.node.name].append(str(definition))
    assert not {name: found for name, found in places.items() if len(found) > 1 and not name.startswith("_")}


def test_everything_public_has_a_docstring() -> None:
    documented = [definition for definition in ALL if definition.is_public and not _is_said_elsewhere(definition)]
    missing = [str(definition) for definition in documented if not ast.get_docstring(definition.node)]
    missing += [str(path.relative_to(ROOT)) for path in modules(*PACKAGES) if not ast.get_docstring(parsed(path))]
    assert not missing, "\n".join(missing)


def test_everything_is_annotated() -> None:
    missing = []
    for definition in ALL:
        node = definition.node
        if not isinstance(node, Function):
            continue
        every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
        arguments = [argument for argument in every if argument is not None]
        if definition.owner and not _has_decorator(node, "staticmethod"):
            arguments = arguments[1:]
        if node.returns is None or any(argument.annotation is None for argument in arguments):
            missing.append(str(definition))
    assert not missing, "\n".join(missing)


def test_loggers_are_named_alike() -> None:
    wrong = []
    for path in modules(*PACKAGES, "loadtests", "scripts"):
        tree = parsed(path)
        assigned = [node for node in tree.body if isinstance(node, ast.Assign)]
        own = [node.value for node in assigned if ast.unparse(node) == "_LOG = logging.getLogger(__name__)"]
        others = [node.value for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr == "setLevel"]
        wrong += [
            f"{path.relative_to(ROOT)}:{node.lineno} {ast.unparse(node)}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("getLogger")
            if node not in [*own, *others]
        ]
    assert not wrong, "\n".join(wrong)


def test_public_functions_of_arrays_say_their_shapes() -> None:
    missing = []
    for definition in ALL:
        node = definition.node
        if not isinstance(node, Function) or not definition.is_public or _is_said_elsewhere(definition):
            continue
        annotations = [argument.annotation for argument in [*node.args.args, *node.args.kwonlyargs]] + [node.returns]
        if not any(annotation and ARRAYS.match(ast.unparse(annotation)) for annotation in annotations):
            continue
        if not SHAPES.search(ast.get_docstring(node) or ""):
            missing.append(str(definition))
    assert not missing, "\n".join(missing)


def _is_said_elsewhere(definition: Definition) -> bool:
    node = definition.node
    if not isinstance(node, Function):
        return False
    return any(_has_decorator(node, name) for name in ("overload", "override", "setter"))


def _has_decorator(node: Function, name: str) -> bool:
    return any(ast.unparse(decorator).split(".")[-1] == name for decorator in node.decorator_list)
