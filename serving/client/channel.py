"""How a channel to the server behaves: retries, reconnection, sizes."""

from __future__ import annotations

import json

# Only UNAVAILABLE is tried again: the server took no work on. gRPC waits as long as the server's
# `grpc-retry-pushback-ms` says where it sends one (negative: not at all), and a random part of the backoff otherwise.
_SERVICE_CONFIG = {
    "methodConfig": [
        {
            "name": [{"service": "dragoman.v1.TranslationService"}],
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.2s",
                "maxBackoff": "5s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}

_MEBIBYTE = 1 << 20

OPTIONS: tuple[tuple[str, str | int], ...] = (
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
    ("grpc.enable_retries", 1),
    # By default a request over 256 KiB is never retried; the server itself takes at most 4 MiB.
    ("grpc.per_rpc_retry_buffer_size", 4 * _MEBIBYTE),
    # So that a retry finds a server that has just come up.
    ("grpc.initial_reconnect_backoff_ms", 200),
    # n-best lists with tokens and alignments are many times longer than the text.
    ("grpc.max_receive_message_length", 64 * _MEBIBYTE),
)
