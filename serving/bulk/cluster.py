"""Blocks over the workers of a Ray cluster."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict

import ray
import ray.data

from serving.bulk.blocks import Block
from serving.bulk.job import Job
from serving.bulk.worker import BlockTranslator, WorkerSettings

# Blocks that Ray hands out together; when a worker dies, those of them that are done are found to be done.
_SHARES_OF_A_WORKER = 64
_LOOPBACK = "127.0.0.1"


def connect(address: str | None) -> None:
    """Joins a cluster; ``None`` or ``local`` starts one for this job, on this machine's cores and loopback address.

    Raises:
        ConnectionError: There is no cluster at the address.
    """
    local = address in (None, "local")
    ray.init(
        address="local" if local else address,
        include_dashboard=False if local else None,
        log_to_driver=False,
        logging_level=logging.ERROR,
        **({"_node_ip_address": _LOOPBACK} if local else {}),
    )


def translate(job: Job, settings: WorkerSettings, blocks: Sequence[Block], *, workers: int) -> Iterator[Block]:
    """Translates blocks on ``workers`` processes and yields each when it is done, in any order.

    Ray starts a worker that died again, and gives what it had not reported to a worker once more.

    Raises:
        ray.exceptions.RayError: A worker cannot start, or the cluster is gone.
    """
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    shares = min(len(blocks), _SHARES_OF_A_WORKER * workers)
    rows = ray.data.from_items([asdict(block) for block in blocks], override_num_blocks=shares)
    done = rows.map(
        BlockTranslator,
        fn_constructor_args=(job, settings),
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_cpus=max(settings.threads, 1),
        num_gpus=1 if settings.device == "cuda" else 0,
    )
    for row in done.iter_rows():
        yield Block(**row)
