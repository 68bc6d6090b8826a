"""``python -m loadtests.peer``: serves the one bundle of a directory with CTranslate2 until a signal ends it."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from grpc import aio

from loadtests.peer.batcher import DynamicBatcher
from loadtests.peer.model import PeerModel
from loadtests.peer.servicer import Batcher, PeerServicer
from serving.pb.translation_service_pb2_grpc import add_TranslationServiceServicer_to_server


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.peer", description="Serves a bundle with CTranslate2.")
    parser.add_argument("--models", type=Path, default=Path("models"), help="directory with one bundle")
    parser.add_argument("--listen", default="127.0.0.1:50052", metavar="HOST:PORT")
    parser.add_argument("--compute-type", default="int8", help="one of CTranslate2's")
    parser.add_argument("--threads", type=int, default=0, help="of all workers together; 0 is one for each core")
    parser.add_argument("--workers", type=int, default=2, help="batches at the same time, which share the threads")
    parser.add_argument("--max-batch", type=int, default=32, help="sentences of a batch")
    parser.add_argument("--delay-ms", type=float, default=5.0, help="time a sentence waits for others to join it")
    asyncio.run(_serve(parser.parse_args(arguments)))
    return 0


async def _serve(asked: argparse.Namespace) -> None:
    (manifest,) = asked.models.glob("[!.]*/[!.]*/manifest.json")
    cores = asked.threads or os.cpu_count() or 1
    workers = min(asked.workers, cores)
    model = PeerModel(
        manifest.parent, compute_type=asked.compute_type, workers=workers, threads=max(cores // workers, 1)
    )
    batcher: Batcher = DynamicBatcher(
        model.translate, workers=workers, max_batch=asked.max_batch, delay=asked.delay_ms / 1e3
    )
    server = aio.server()
    add_TranslationServiceServicer_to_server(PeerServicer(model, batcher), server)
    host, _, _ = asked.listen.rpartition(":")
    port = server.add_insecure_port(asked.listen)
    ending = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ending.set)
    await batcher.start()
    await server.start()
    ready = {"event": "ready", "listen": f"{host}:{port}", "compute_type": model.compute_type, "workers": workers}
    print(json.dumps(ready), file=sys.stderr, flush=True)
    await ending.wait()
    await server.stop(5.0)
    await batcher.stop()


if __name__ == "__main__":
    sys.exit(main())
