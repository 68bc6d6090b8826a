"""Options of a channel to the servers: retries, balancing, reconnection, sizes."""

from __future__ import annotations

import json

from serving.client.proxy import proxy_options
from serving.pb import translation_service_pb2 as pb

_SERVICE = pb.DESCRIPTOR.services_by_name["TranslationService"].full_name

# Only UNAVAILABLE is tried again: the server took no work on, or went away with it, and a translation has no side
# effects. gRPC waits as long as the server's `grpc-retry-pushback-ms` says where it sends one (negative: not at all),
# and otherwise about 0.2, 0.6, 1.8 and 5 s: longer than a server that is started again needs.
_RETRIES = {
    "methodConfig": [
        {
            "name": [{"service": _SERVICE}],
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.2s",
                "maxBackoff": "5s",
                "backoffMultiplier": 3,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}

# Calls take turns over all addresses of the name; a replica whose health service says that it drains or loads gets
# none. Not through a proxy: the health it would tell is that of one replica behind it.
_BALANCING = {"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": _SERVICE}}

_MEBIBYTE = 1 << 20

_COMMON: tuple[tuple[str, str | int], ...] = (
    ("grpc.enable_retries", 1),
    # By default a request over 256 KiB is never retried; the server itself takes at most 4 MiB.
    ("grpc.per_rpc_retry_buffer_size", 4 * _MEBIBYTE),
    # So that a retry finds a server that has just come up, and a replica that came back gets calls before the next one
    # goes: less than minReadySeconds in deploy/kubernetes. The default grows to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    # A name is asked for again when a connection ends; by default at most twice a minute.
    ("grpc.dns_min_time_between_resolutions_ms", 5_000),
    # A machine that vanished closes no connection; without pings its calls would wait for their deadlines.
    ("grpc.keepalive_time_ms", 15_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # gRPC would otherwise send two pings and then one a minute until the caller sends data again.
    ("grpc.http2.max_pings_without_data", 0),
    # n-best lists with tokens and alignments are many times longer than the text.
    ("grpc.max_receive_message_length", 64 * _MEBIBYTE),
)


def channel_options(server: str, *, balance: bool = False) -> tuple[tuple[str, str | int], ...]:
    """Return the options of a channel to ``server``; with ``balance`` its addresses are replicas."""
    service_config = json.dumps(_RETRIES | _BALANCING if balance else _RETRIES)
    return (*_COMMON, ("grpc.service_config", service_config), *proxy_options(server))
