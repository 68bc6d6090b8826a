"""Options of a sentence as its slot keeps them: one record of numbers, which a step reads for all slots at once."""

from __future__ import annotations

from typing import Any

import numpy as np

from serving.bundle.manifest import SearchConventions
from serving.decoding import conventions, stopping
from serving.decoding.options import DecodingOptions
from serving.messages import Sampling

# Fields of ``DecodingOptions``, ``Sampling`` and ``SearchConventions``, and some that ``of`` derives. Lengths count the
# start.
FIELDS = [
    ("length_penalty", np.float64),
    ("max_length", np.int64),
    ("min_length", np.int64),
    ("no_repeat_ngram_size", np.int64),
    ("repetition_penalty", np.float32),
    ("start_length", np.int64),
    ("prefix_length", np.int64),
    ("beside", np.bool_),
    ("n_best", np.int64),
    ("enough", np.int64),
    ("groups", np.int64),
    ("diversity_penalty", np.float32),
    ("sampled", np.bool_),
    ("temperature", np.float32),
    ("top_k", np.int64),
    ("top_p", np.float32),
    ("seed", np.int64),
    ("early_stopping", np.int64),
    ("ends_at_limit", np.bool_),
    ("ranked_at_limit", np.bool_),
    ("prefix_scored", np.bool_),
    ("uncounted", np.int64),
    ("end_after_prefix", np.int64),
    ("beam_shrinks", np.bool_),
]


def of(options: DecodingOptions) -> tuple[Any, ...]:
    """Return the record of a sentence: a value of each of ``FIELDS``."""
    start, search = len(options.start), _search(options)
    given = vars(options) | vars(options.sampling or Sampling(seed=0)) | vars(search)
    given |= {name: start + given[name] for name in ("max_length", "min_length")}
    given |= {
        "start_length": start,
        "prefix_length": start + len(options.prefix),
        "uncounted": 0 if search.prefix_counted else len(options.prefix),
        "sampled": options.sampling is not None,
        "enough": options.enough or options.beam_size,
        "early_stopping": stopping.rule_of(options),
        "end_after_prefix": conventions.END_AFTER_PREFIX.index(search.end_after_prefix),
    }
    return tuple(given[name] for name, _ in FIELDS)


def _search(options: DecodingOptions) -> SearchConventions:
    """Return the conventions; of a search for terms or in groups, which is like nobody else's, only those of scores."""
    own = options.search
    if options.terms is None and options.groups == 1:
        return own
    return SearchConventions(prefix_scored=own.prefix_scored, prefix_counted=own.prefix_counted)
