"""Distribution of blocks over the workers of a Ray cluster."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict

import ray
import ray.data

from serving.bulk.blocks import Block
from serving.bulk.job import BulkJob
from serving.bulk.worker import BlockTranslator, WorkerSettings
from serving.errors import EngineFailure

# Blocks that Ray hands out together; when a worker dies, those of them that are done are found to be done.
_SHARES_OF_A_WORKER = 64


def connect(address: str | None) -> None:
    """Join a cluster: at ``address``, or else at ``RAY_ADDRESS``, or else a new one on this machine.

    Raises:
        ConnectionError: There is no cluster at the address.
    """
    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    logging.getLogger("ray.data").setLevel(logging.ERROR)


def translate(job: BulkJob, settings: WorkerSettings, blocks: Sequence[Block], *, workers: int) -> Iterator[Block]:
    """Translate blocks on ``workers`` processes and yield each when it is done, in any order.

    Ray starts a worker that died again, and gives what it had not reported to a worker once more.

    Raises:
        EngineFailure: A worker cannot work, or the cluster is gone.
    """
    ray.data.DataContext.get_current().enable_progress_bars = False
    shares = min(len(blocks), _SHARES_OF_A_WORKER * workers)
    rows = ray.data.from_items([asdict(block) for block in blocks], override_num_blocks=shares)
    done = rows.map(
        BlockTranslator,
        fn_constructor_args=(job, settings),
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_cpus=settings.threads,
        num_gpus=1 if settings.device == "cuda" else 0,
    )
    try:
        for row in done.iter_rows():
            yield Block(**row)
    except ray.exceptions.RayError as error:
        raise EngineFailure(f"a worker failed: {str(error).strip().splitlines()[-1]}") from error
