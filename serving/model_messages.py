"""Descriptions of the models that are served, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from serving.messages import EarlyStopping


@dataclass(frozen=True)
class ModelLimits:
    """Limits that no request may exceed."""

    max_source_tokens: int
    max_target_tokens: int
    max_beam_size: int
    max_contents: int
    max_characters: int = 0  # not told by a server that is older than this client


@dataclass(frozen=True)
class ModelDefaults:
    """Options of a request that leaves them unset."""

    beam_size: int
    length_penalty: float
    early_stopping: EarlyStopping = EarlyStopping.ON
    min_length: int = 0
    no_repeat_ngram_size: int = 0


@dataclass(frozen=True)
class Verification:
    """Comparison of the exported graphs with the model they were exported from, measured at export."""

    created: str
    max_abs_log_prob_difference: float
    sentences: int
    greedy_equal_ratio: float
    beam_equal_ratio: float
    beam_size: int
    reference_bleu: float | None = None
    export_bleu: float | None = None
    bleu_signature: str = ""


@dataclass(frozen=True)
class Model:
    """A model that is served.

    Attributes:
        name: The name that ``model`` in a call refers to.
        version: Its version; a call that names none gets the newest.
        is_default: Whether a call that names no model gets this one.
        source_language: BCP-47 tag, empty where there are several.
        target_language: The same of the language it translates into.
        source_languages: BCP-47 tags; it translates from any of them into any of the targets.
        target_languages: The same of the languages it translates into.
        family: Family of its architecture; for people, not for programs to branch on.
        sizes: Sizes and choices by name, each spelled as JSON.
        limits: Limits that no request may exceed.
        defaults: Values of unset options.
        precision: Name of the graphs in use, among the precisions of its bundle.
        device: Where it really runs: ``cpu`` or ``cuda``.
        verification: How the graphs compared with their original.
        has_attention: Whether it tells what it attends to.
    """

    name: str
    version: int
    is_default: bool
    source_language: str
    target_language: str
    family: str
    sizes: Mapping[str, str]
    limits: ModelLimits
    defaults: ModelDefaults
    precision: str
    device: str
    verification: Verification
    source_languages: tuple[str, ...] = ()
    target_languages: tuple[str, ...] = ()
    has_attention: bool = False
