"""``python -m serving.client.health``: a health check over gRPC, for images that have no other client."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving.client.credentials import add_tls_flags, chosen_credentials
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
    add_tls_flags(parser)
    parser.add_argument("--tls-name", metavar="HOST", help="name in the server's certificate, if it is not in --server")
    arguments = parser.parse_args(argv)
    try:
        credentials = chosen_credentials(arguments)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    options = proxy_options(arguments.server)
    if arguments.tls_name:
        options += (("grpc.ssl_target_name_override", arguments.tls_name),)
    if credentials is None:
        opened = grpc.insecure_channel(arguments.server, options=options)
    else:
        opened = grpc.secure_channel(arguments.server, credentials, options=options)
    with opened as channel:
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
