"""``python -m serving.client.health``: a health check over gRPC, for images that have no other client."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving.client.proxy import proxy_options, route

SERVING, NOT_SERVING = 0, 1  # argparse itself exits with 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        0 if the server takes calls; 1 if it reports that it does not, or does not answer.
    """
    parser = argparse.ArgumentParser(
        prog="python -m serving.client.health",
        description="Ask a Dragoman server whether it takes calls (grpc.health.v1).",
        epilog="Exit status: 0 it does; 1 it does not, or does not answer.",
    )
    listen = os.environ.get("DRAGOMAN_LISTEN", "127.0.0.1:50051")
    parser.add_argument(
        "--server",
        default=listen.replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]"),
        metavar="HOST:PORT",
        help="where DRAGOMAN_LISTEN says, if not given",
    )
    parser.add_argument("--deadline", type=float, default=3.0, metavar="SECONDS", help="time for the answer")
    arguments = parser.parse_args(argv)
    with grpc.insecure_channel(arguments.server, options=proxy_options(arguments.server)) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=arguments.deadline
            )
        except grpc.RpcError as error:
            said = f"{error.code().name}: {error.details()}{route(arguments.server)}"
            print(f"{arguments.server}: {said}", file=sys.stderr)
            return NOT_SERVING
    status = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    print(f"{arguments.server}: {status}")
    return SERVING if answer.status == health_pb2.HealthCheckResponse.SERVING else NOT_SERVING


if __name__ == "__main__":
    sys.exit(main())
