"""The server's configuration: flags, before a YAML file, before ``DRAGOMAN_*`` variables, before defaults."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from serving.engine.scheduler import EngineLimits
from serving.errors import StartupError

VARIABLE_PREFIX = "DRAGOMAN_"
# Set for this project's tests, which also start servers; the server has no use for it.
_NOT_FOR_THE_SERVER = frozenset({"DRAGOMAN_DATA"})


def split_address(address: str) -> tuple[str, int]:
    """Splits ``HOST:PORT``; an IPv6 host stands in brackets, port 0 asks for a free one.

    Raises:
        ValueError: It is something else.
    """
    host, colon, port = address.rpartition(":")
    if not (host and colon and port.isdecimal() and int(port) < 65536):
        raise ValueError(f"{address!r} is no HOST:PORT; write for example 127.0.0.1:50051, or port 0 for a free one")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _checked_address(address: str) -> str:
    split_address(address)
    return address


Address = Annotated[str, AfterValidator(_checked_address)]


class ServerConfig(BaseModel):
    """Every option of the server; a field is the flag ``--some-name``, the YAML key ``some_name`` and a variable."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    models: Path = Field(
        description="directory of bundles, NAME/VERSION/ each; read when the server starts, and only then"
    )
    default_model: str = Field(
        default="", description="model of requests that name none; needed only with several models"
    )
    precision: Literal["auto", "fp32", "fp16", "int8", "fp32-shortlist", "int8-shortlist"] = Field(
        default="auto", description="which graphs of each bundle to run; auto takes its fastest for the device"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="auto takes cuda where it really works")
    workers: int = Field(
        default=1,
        ge=1,
        description="threads that encode and step; more give throughput on a CPU, and slower single answers",
    )
    threads: int = Field(
        default=0,
        ge=0,
        description="threads of each worker's operators; 0 is one for each physical core, or 1 if workers are several",
    )
    listen: Address = Field(default="127.0.0.1:50051", description="HOST:PORT of gRPC")
    http: Address = Field(default="127.0.0.1:8080", description="HOST:PORT of /metrics, /healthz and /readyz")
    max_rows: int = Field(default=EngineLimits.rows, ge=1, description="hypotheses of each worker and beam size")
    max_running_tokens: int = Field(
        default=EngineLimits.running_tokens, ge=1, description="source and target tokens in flight, over all beams"
    )
    max_queue_sentences: int = Field(default=EngineLimits.queue_sentences, ge=1, description="sentences that may wait")
    max_queue_tokens: int = Field(default=EngineLimits.queue_tokens, ge=1, description="source tokens that may wait")
    max_beam: int = Field(default=8, ge=1, description="largest beam size a request may ask for")
    max_contents: int = Field(default=128, ge=1, description="most texts in one request")
    max_message_bytes: int = Field(default=4 << 20, ge=1024, description="largest request or response")
    max_calls: int = Field(default=1024, ge=1, description="calls that may be in flight")
    max_calls_per_second: float = Field(default=0.0, ge=0, allow_inf_nan=False, description="rate limit; 0 is none")
    drain_timeout: float = Field(
        default=30.0, ge=0, allow_inf_nan=False, description="seconds that accepted calls have to finish at shutdown"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="least level that is logged"
    )


def load_config(arguments: Sequence[str], environment: Mapping[str, str]) -> ServerConfig:
    """Reads the configuration from every place it can come from.

    Args:
        arguments: Flags, without the program's name.
        environment: Variables.

    Raises:
        StartupError: An unknown key, a bad value, or a file that cannot be read.
        SystemExit: ``--help``, or flags that are wrong.
    """
    flags = {key: value for key, value in vars(_parser().parse_args(arguments)).items() if value is not None}
    variables = _variables(environment)
    path = flags.pop("config", None) or variables.pop("config", None)
    file = _file(path) if path else {}
    origins = (
        {key: f"{VARIABLE_PREFIX}{key.upper()}" for key in variables}
        | {key: f"{key} in {path}" for key in file}
        | {key: _flag(key) for key in flags}
    )
    try:
        return ServerConfig.model_validate(variables | file | flags)
    except ValidationError as error:
        raise StartupError("; ".join(_sentence(problem, origins) for problem in error.errors())) from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dragoman-serve",
        description="Serves translation models over gRPC.",
        epilog="Each option is also a key of the YAML file (max_beam) and a variable (DRAGOMAN_MAX_BEAM). "
        "Flags are stronger than the file, the file is stronger than variables. SIGTERM or SIGINT lets accepted calls "
        "finish; a second one ends the server at once.",
        allow_abbrev=False,
    )
    parser.add_argument("--config", metavar="FILE", help="YAML file of options")
    for key, field in ServerConfig.model_fields.items():
        default = "" if field.is_required() or field.default == "" else f" (default: {field.default})"
        parser.add_argument(_flag(key), metavar="VALUE", help=f"{field.description}{default}")
    return parser


def _flag(key: str) -> str:
    return "--" + key.replace("_", "-")


def _variables(environment: Mapping[str, str]) -> dict[str, str]:
    names = sorted(name for name in environment if name.startswith(VARIABLE_PREFIX) and name not in _NOT_FOR_THE_SERVER)
    variables = {name.removeprefix(VARIABLE_PREFIX).lower(): environment[name] for name in names}
    known = {*ServerConfig.model_fields, "config"}
    if unknown := [key for key in variables if key not in known]:
        raise StartupError(
            "; ".join(
                f"unknown variable {VARIABLE_PREFIX}{key.upper()}; {_suggestion(key, known, VARIABLE_PREFIX)}"
                for key in unknown
            )
        )
    return variables


def _file(path: str) -> dict[str, Any]:
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise StartupError(f"cannot read the configuration {path}: {' '.join(str(error).split())}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise StartupError(f"the configuration {path} is not a YAML mapping; write lines like 'max_beam: 8'")
    known = ServerConfig.model_fields
    if unknown := [str(key) for key in content if key not in known]:
        raise StartupError(
            "; ".join(
                f"unknown key {key!r} in {path}; {_suggestion(key, ServerConfig.model_fields)}" for key in unknown
            )
        )
    return content


def _suggestion(key: str, known: Iterable[str], prefix: str = "") -> str:
    spelt = {name: prefix + name.upper() if prefix else name for name in known}
    if close := difflib.get_close_matches(key, spelt, n=1):
        return f"did you mean {spelt[close[0]]}?"
    return f"remove it, or take one of {', '.join(sorted(spelt.values()))}"


def _sentence(problem: Any, origins: Mapping[str, str]) -> str:
    key = str(problem["loc"][0])
    if problem["type"] == "missing":
        return f"{key} is not set; give {_flag(key)} {ServerConfig.model_fields[key].description}"
    message = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return f"{origins.get(key, key)} = {problem['input']!r}: {message}"
