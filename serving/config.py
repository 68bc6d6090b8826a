"""Configuration of the server from flags, a YAML file, ``DRAGOMAN_*`` variables and defaults, in this order.

``pydantic-settings`` would need more code: its sources ignore unknown variables and missing files, read the process's
own environment, and do not report where an invalid value came from.
"""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    model_validator,
)

from serving.engine.scheduler import EngineLimits
from serving.engine.validation import ServingLimits
from serving.errors import StartupError
from serving.limits import ClientLimits, parse_limits
from serving.loopback import is_loopback_host

VARIABLE_PREFIX = "DRAGOMAN_"
# Of this project's tests, which also start servers, and of the client; no options of the server.
_NOT_FOR_THE_SERVER = frozenset({"DRAGOMAN_DATA", "DRAGOMAN_TOKEN"})


def split_address(address: str) -> tuple[str, int]:
    """Split ``HOST:PORT``; an IPv6 host is in brackets, port 0 means a free one.

    Raises:
        ValueError: ``address`` has another form.
    """
    host, colon, port = address.rpartition(":")
    if not (host and colon and port.isdecimal() and int(port) < 65536):
        raise ValueError(f"{address!r} is not HOST:PORT; write for example 127.0.0.1:50051, or port 0 for a free one")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _checked_address(address: str) -> str:
    split_address(address)
    return address


Address = Annotated[str, AfterValidator(_checked_address)]
OptionalAddress = Annotated[Address | None, BeforeValidator(lambda address: address or None)]


def _parsed_limits(value: object) -> object:
    return parse_limits(value) if isinstance(value, str) else value


Limits = Annotated[ClientLimits, BeforeValidator(_parsed_limits), PlainSerializer(str)]
Names = Annotated[
    tuple[str, ...],
    BeforeValidator(lambda names: names.replace(",", " ").split() if isinstance(names, str) else names),
    PlainSerializer(",".join),
]
Count = Annotated[int, Field(ge=1)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class ServerConfig(BaseModel):
    """Options of the server; field ``max_beam`` is flag ``--max-beam``, YAML key ``max_beam``, and a variable."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    models: Path = Field(description="directory of bundles, NAME/VERSION/ each; read when the server starts")
    watch: bool = Field(default=False, description="load, replace and unload bundles as they change in the directory")
    default_model: str = Field(
        default="", description="model for requests that name none; required with several models"
    )
    precision: Literal["auto", "fp32", "fp16", "int8", "fp32-shortlist", "int8-shortlist"] = Field(
        default="auto", description="precision of the graphs to run; auto is the fastest for the device"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="auto is cuda if it works, else cpu")
    workers: int = Field(
        default=0,
        ge=0,
        description="decoding processes, or threads on a GPU; 0: one per core, 8 at most, for a small model, else 1",
    )
    threads: int = Field(
        default=0,
        ge=0,
        description="operator threads per worker; 0 is one per physical core, or 1 with several workers",
    )
    listen: Address = Field(default="127.0.0.1:50051", description="HOST:PORT of the gRPC server")
    http: Address = Field(default="127.0.0.1:8080", description="HOST:PORT of /metrics, /healthz and /readyz")
    web: OptionalAddress = Field(
        default="127.0.0.1:8000", description="HOST:PORT of HTTP/JSON and the web page; empty for none"
    )
    admin: Address | None = Field(
        default=None,
        description="HOST:PORT of the gRPC service that loads and unloads models; without it there is none",
    )
    allowed_hosts: Names = Field(
        default=(),
        description="names (spaces or commas between) by which HTTP may call a loopback port without tokens, "
        "besides localhost and addresses",
    )
    tls_cert: Path | None = Field(default=None, description="PEM file with the certificate chain, for every port")
    tls_key: Path | None = Field(default=None, description="PEM file with the certificate's key")
    tls_client_ca: Path | None = Field(
        default=None, description="PEM file with the authorities whose certificates callers must have"
    )
    tokens: Path | None = Field(
        default=None, description="file of bearer tokens that callers must have; see `dragoman-serve token new --help`"
    )
    insecure: bool = Field(
        default=False, description="let other machines reach the ports without TLS or without showing who they are"
    )
    reflection: bool = Field(default=True, description="tell callers the API (gRPC server reflection)")
    max_rows: Count = Field(default=EngineLimits.rows, description="maximum hypotheses per worker and beam size")
    max_running_tokens: Count = Field(
        default=EngineLimits.running_tokens, description="maximum source and target tokens in flight, over all beams"
    )
    max_queue_sentences: Count = Field(
        default=EngineLimits.queue_sentences, description="maximum sentences in the queue"
    )
    max_queue_tokens: Count = Field(default=EngineLimits.queue_tokens, description="maximum source tokens in the queue")
    max_beam: Count = Field(default=8, description="maximum beam size of a request")
    max_contents: Count = Field(default=128, description="maximum texts in one request")
    max_characters: Count = Field(
        default=ServingLimits.max_characters, description="maximum characters of the texts in one request"
    )
    max_message_bytes: int = Field(default=4 << 20, ge=1024, description="maximum bytes of a request or response")
    max_calls: Count = Field(default=1024, description="maximum calls in flight")
    max_calls_per_second: Amount = Field(default=0.0, description="rate limit of calls; 0 is no limit")
    run_timeout: Amount = Field(
        default=EngineLimits.run_seconds,
        description="seconds after which a run of the model is given up and the model loaded again; 0 is never",
    )
    max_memory_bytes: int = Field(
        default=0, ge=0, description="memory of the process above which new calls are refused; 0 is no limit"
    )
    client_limits: Limits | None = Field(
        default=None,
        description="limits of each client, such as 'calls=4 rate=10 characters=2000 quota=1000000 streams=2 beam=4'",
    )
    max_connection_idle: Amount = Field(
        default=900.0, description="seconds after which a connection without calls is closed; 0 is never"
    )
    max_connection_age: Amount = Field(
        default=0.0, description="seconds after which a client is told to connect again; 0 is never"
    )
    otlp_endpoint: str = Field(
        default="", description="URL of an OpenTelemetry collector (OTLP over gRPC) for traces; needs dragoman[otel]"
    )
    trace_ratio: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.01, description="share of calls that are traced, of those whose caller does not say"
    )
    max_log_lines: Amount = Field(
        default=100.0, description="calls a second that are logged, but for faults of the server; 0 is all"
    )
    drain_timeout: Amount = Field(default=30.0, description="seconds for accepted calls to finish at shutdown")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="minimum level of log messages"
    )

    @model_validator(mode="after")
    def _tls_is_whole(self) -> ServerConfig:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key belong together; give both or neither")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ValueError("tls_client_ca needs TLS; give tls_cert and tls_key too")
        return self

    @model_validator(mode="after")
    def _ports_are_guarded(self) -> ServerConfig:
        ports = [port for port in (self.listen, self.http, self.web, self.admin) if port is not None]
        exposed = [port for port in ports if not is_loopback_host(split_address(port)[0])]
        guarded = self.tls_cert is not None and (self.tokens is not None or self.tls_client_ca is not None)
        if exposed and not (guarded or self.insecure):
            raise ValueError(
                f"other machines can reach {' and '.join(exposed)}: listen on 127.0.0.1, or give --tls-cert and "
                "--tls-key with --tokens or --tls-client-ca, or --insecure where a proxy or the network guards it"
            )
        if self.admin in exposed and not (self.tokens or self.insecure):
            raise ValueError(
                f"other machines can reach --admin {self.admin} and there are no tokens, so that every caller could "
                "change the models: listen on 127.0.0.1, or give --tokens, or --insecure where the network guards it"
            )
        return self

    def hosts_at(self, address: str) -> tuple[str, ...] | None:
        """Return the names by which an HTTP port may be called; None where a caller has to show who it is anyway.

        Pages of other sites reach a port on loopback that lets everyone in, by a name that they make resolve to it.
        """
        open_to_all = self.tokens is None and self.tls_client_ca is None
        return self.allowed_hosts if open_to_all and is_loopback_host(split_address(address)[0]) else None


def load_config(arguments: Sequence[str], environment: Mapping[str, str]) -> ServerConfig:
    """Load the configuration from flags, file and variables.

    Args:
        arguments: Command line, without the name of the program.
        environment: Variables by name.

    Raises:
        StartupError: A key is unknown, a value is invalid, or the file cannot be read.
        SystemExit: ``--help``, or an unknown flag.
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
        description="Serve translation models over gRPC.",
        epilog="Each option is also a key of the YAML file (max_beam) and an environment variable (DRAGOMAN_MAX_BEAM). "
        "Flags override the file, and the file overrides variables. SIGTERM or SIGINT lets accepted calls finish; a "
        "second one ends the server at once. `dragoman-serve token new` makes a token for --tokens.",
        allow_abbrev=False,
    )
    parser.add_argument("--config", metavar="FILE", help="YAML file with options")
    for key, field in ServerConfig.model_fields.items():
        default = "" if field.is_required() or field.default in ("", None) else f" (default: {field.default})"
        if field.annotation is bool:
            parser.add_argument(_flag(key), action=argparse.BooleanOptionalAction, help=f"{field.description}{default}")
        else:
            parser.add_argument(_flag(key), metavar="VALUE", help=f"{field.description}{default}")
    return parser


def _flag(key: str) -> str:
    return "--" + key.replace("_", "-")


def _variables(environment: Mapping[str, str]) -> dict[str, str]:
    names = {
        name.removeprefix(VARIABLE_PREFIX).lower(): name
        for name in sorted(environment.keys() - _NOT_FOR_THE_SERVER)
        if name.startswith(VARIABLE_PREFIX)
    }
    known = {key: f"{VARIABLE_PREFIX}{key.upper()}" for key in (*ServerConfig.model_fields, "config")}
    _refuse_unknown({key: f"variable {name}" for key, name in names.items()}, known)
    return {key: environment[name] for key, name in names.items()}


def _file(path: str) -> dict[str, Any]:
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise StartupError(f"cannot read the configuration {path}: {' '.join(str(error).split())}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise StartupError(f"the configuration {path} is not a YAML mapping; write lines like 'max_beam: 8'")
    _refuse_unknown(
        {str(key): f"key {str(key)!r} in {path}" for key in content}, {key: key for key in ServerConfig.model_fields}
    )
    return content


def _refuse_unknown(given: Mapping[str, str], known: Mapping[str, str]) -> None:
    """Raise ``StartupError`` for keys that are not known; both map a key to its name in the message."""

    def remedy(key: str) -> str:
        if close := difflib.get_close_matches(key, known, n=1):
            return f"did you mean {known[close[0]]}?"
        return f"remove it, or use one of {', '.join(sorted(known.values()))}"

    if problems := [f"unknown {name}; {remedy(key)}" for key, name in given.items() if key not in known]:
        raise StartupError("; ".join(problems))


def _sentence(problem: Any, origins: Mapping[str, str]) -> str:
    message = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if not problem["loc"]:
        return str(message)
    key = str(problem["loc"][0])
    if problem["type"] == "missing":
        return f"{key} is not set; give {_flag(key)} {ServerConfig.model_fields[key].description}"
    return f"{origins.get(key, key)} = {problem['input']!r}: {message}"
