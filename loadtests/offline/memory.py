"""Growth of memory over many mixed translations: ``python -m loadtests.offline.memory``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from loadtests.offline.searches import Ids, Search
from loadtests.offline.worker import EngineSpec, Worker
from loadtests.report import write_json
from serving.bundle.bundle import load_bundle
from serving.bundle.manifest import Manifest

_FIRST = 1_000  # translations after which every buffer should have been allocated
_GROWTH = 0.02  # of resident memory that is allowed from then on
_BEAMS = (1, 1, 1, 1, 1, 1, 1, 2, 4)  # a random one for each batch
_LONGEST = 24  # tokens
_LARGEST_BATCH = 256


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 1 if memory grew by more than the limit."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.offline.memory", description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True, metavar="NAME/VERSION")
    parser.add_argument("--precision", default="fp32", help="default: fp32")
    parser.add_argument("--translations", type=_count, default=100_000, help="default: 100000")
    parser.add_argument("--threads", type=int, default=2, help="default: 2")
    parser.add_argument("--json", type=Path, metavar="FILE")
    asked = parser.parse_args(arguments)
    bundle = load_bundle(asked.bundle)
    spec = EngineSpec("dragoman", asked.precision, bundle.directory.resolve())
    resident = {0: 0}
    with Worker(spec, asked.threads) as worker:
        done = 0
        for batch, search in _batches(bundle.manifest, asked.translations):
            worker.translate([batch], search)
            done += len(batch)
            if done in (_FIRST, asked.translations) or done // _FIRST > max(resident) // _FIRST:
                resident[done] = worker.memory().resident
    del resident[0]
    first, last = resident[_FIRST], resident[asked.translations]
    growth = last / first - 1
    print(f"{first / 1e6:.1f} MB after {_FIRST}, {last / 1e6:.1f} MB after {asked.translations}: {growth:+.2%}")
    if asked.json:
        figures = {"model": bundle.manifest.name, "precision": asked.precision}
        write_json(asked.json, {**figures, "growth": growth, "resident": resident})
    if growth > _GROWTH:
        print(f"memory: it grew by {growth:.2%}, at most {_GROWTH:.0%} is allowed: look for a leak", file=sys.stderr)
        return 1
    return 0


def _count(value: str) -> int:
    if int(value) < 2 * _FIRST:
        raise argparse.ArgumentTypeError(f"{value} translations are too few to compare with {_FIRST}: ask for more")
    return int(value)


def _batches(manifest: Manifest, translations: int) -> Iterator[tuple[list[Ids], Search]]:
    """Yield random sentences in batches of random sizes, lengths and beams; one ends at ``_FIRST``, one at the last.

    The first ones are the largest of each beam size, so that what is allocated once is allocated before it is measured.
    """
    generator = np.random.default_rng(0)
    largest = [(_LARGEST_BATCH, beam, _LONGEST) for beam in sorted(set(_BEAMS))]
    done = 0
    while done < translations:
        room = (_FIRST if done < _FIRST else translations) - done
        if largest:
            size, beam, longest = largest.pop()
        else:
            size, longest = int(generator.integers(1, _LARGEST_BATCH)), int(generator.integers(4, _LONGEST))
            beam = int(generator.choice(_BEAMS))
        lengths = generator.integers(2, longest + 1, min(size, room))
        lengths[0] = longest
        ids = (generator.integers(manifest.special_ids.eos + 1, manifest.vocabulary_size, n - 1) for n in lengths)
        yield [[*row.tolist(), manifest.special_ids.eos] for row in ids], Search(beam, max_length=longest)
        done += len(lengths)


if __name__ == "__main__":
    sys.exit(main())
