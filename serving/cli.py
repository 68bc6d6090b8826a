"""``dragoman-serve``: a server that runs until a signal ends it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from serving.api.admission import Phase
from serving.api.loading import load_models
from serving.api.server import Server
from serving.config import ServerConfig, load_config, split_address
from serving.errors import StartupError
from serving.observability.json_logs import set_up_logs
from serving.token_cli import main as token_main

_LOG = logging.getLogger(__name__)
# How long the event loop waits for Python's lock while another thread has it: one that takes a worker's report, or a
# worker on a GPU. The loop gives the lock up many times a call, and Python's own 5 ms each time would let no more than
# a hundred or two through a second.
_SWITCH_SECONDS = 0.0001


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the server until a signal ends it, or ``dragoman-serve token``.

    The first SIGTERM or SIGINT lets accepted calls finish; a second one ends the process at once, and the exit status
    is 128 plus its number.

    Returns:
        The exit status: 0 after an orderly end, 1 if the server cannot start, 2 for bad options.
    """
    given = sys.argv[1:] if arguments is None else arguments
    if given[:1] == ["token"]:
        return token_main(given[1:])
    try:
        config = load_config(given, os.environ)
    except StartupError as error:
        print(f"dragoman-serve: {error}", file=sys.stderr)
        return 2
    set_up_logs(config.log_level)
    sys.setswitchinterval(_SWITCH_SECONDS)
    try:
        asyncio.run(_run(config))
    except StartupError as error:
        _LOG.error("startup_failed", extra={"error": str(error)})
        return 1
    return 0


async def _run(config: ServerConfig) -> None:
    ending = asyncio.Event()
    server = Server(config)

    def end(number: signal.Signals) -> None:
        if ending.is_set() or server.admission.phase is Phase.LOADING:
            _end_at_once(server, number)
        ending.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, end, number)
    try:
        await server.start()
        _LOG.info("listening", extra=_addresses(config, server))
        await asyncio.to_thread(load_models, config, server.models, server.metrics)
        await server.serve()
        _LOG.info("ready", extra=_addresses(config, server) | {"models": [m.label for m in server.models.models()]})
        await ending.wait()
        _LOG.info("draining", extra={"calls": server.admission.in_flight})
        drained = await server.drain()
        _LOG.info("drained" if drained else "drain_timed_out", extra={"calls": server.admission.in_flight})
    finally:
        await server.stop()
    _LOG.info("stopped")


def _end_at_once(server: Server, number: signal.Signals) -> NoReturn:
    """End the process without its clean-up, which would wait for threads that load or compute."""
    if server.admission.phase is Phase.LOADING:
        _LOG.info("stopped")
        os._exit(0)
    snapshots = [model.snapshot() for model in server.models.models()]
    dropped = {
        "calls": server.admission.in_flight,
        "sentences": sum(snapshot.queue_depth + snapshot.running_slots for snapshot in snapshots),
    }
    _LOG.warning("ended_at_once", extra={"signal": number.name, "dropped": dropped})
    os._exit(128 + number)


def _addresses(config: ServerConfig, server: Server) -> dict[str, object]:
    ports = [("listen", config.listen, server.port), ("http", config.http, server.http.port)]
    if config.admin:
        ports.append(("admin", config.admin, server.admin_port))
    if config.web and server.web:
        ports.append(("web", config.web, server.web.port))
    return {option: f"{_host(address)}:{port}" for option, address, port in ports}


def _host(address: str) -> str:
    host, _ = split_address(address)
    return f"[{host}]" if ":" in host else host
