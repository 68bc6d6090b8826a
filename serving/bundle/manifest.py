"""Manifest of a bundle: the contract between export and serving.

A bundle is a directory ``NAME/VERSION/`` with ``manifest.json``, the ONNX graphs of each precision and the tokenizer's
files. Inputs, memory and state are declared here as data, so serving allocates, binds and moves them without knowing
the architecture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import prod
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from serving.messages import EarlyStopping

FORMAT_VERSION: Final = 3
READABLE: Final = (2, 3)

# Limits that no real model comes near: a manifest is data from outside, and sizes become memory.
_MAX_ELEMENTS: Final = 1 << 24  # of one tensor for each entry, position or beam
_MAX_VOCABULARY: Final = 1 << 24
_MAX_TOKENS: Final = 1 << 16
_MAX_LANGUAGES: Final = 1 << 12
_MAX_LANGUAGE_TOKENS: Final = 8
_NAMED: Final = 60  # languages that an error or a line of the log names

# The decoder's output that older bundles and models without attention lack: (slot, beam, src), each row sums to 1.
ATTENTION: Final = "attention"

# A file beside the manifest: no folder, no parent, nothing hidden.
FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
GraphFile = Annotated[FileName, StringConstraints(pattern=r"\.onnx$")]  # ONNX Runtime takes .ort for another format
TokenId = Annotated[int, Field(ge=0, lt=_MAX_VOCABULARY)]
FixedSize = Annotated[int, Field(ge=1, le=_MAX_ELEMENTS)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Dtype = Literal["float32", "float16", "int64", "int32", "uint8", "int8", "bool"]
LANGUAGE_TAG: Final = r"^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$"
LanguageTag = Annotated[str, StringConstraints(pattern=LANGUAGE_TAG)]


class Axis(StrEnum):
    """Axes whose size is known only at run time; every other axis is declared by its size."""

    SLOT = "slot"  # sentences in flight in the decoder's grid
    SOURCE = "source"  # sentences of one encoder batch
    BEAM = "beam"  # live hypotheses of one sentence
    SRC = "src"  # source token positions
    ENTRY = "entry"  # cache entries of one sentence, shared by its hypotheses
    EDIT = "edit"  # log-prob edits of one hypothesis
    CANDIDATE = "candidate"  # best continuations of one sentence
    SHORTLIST = "shortlist"  # target tokens that one sentence may use
    COLUMN = "column"  # target tokens that some sentence of a grid may use


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TensorSpec(_Strict):
    """Name, dtype and axes of one tensor; an axis is an :class:`Axis` or a fixed size."""

    name: str
    dtype: Dtype
    axes: tuple[Axis | FixedSize, ...] = Field(max_length=8)

    @model_validator(mode="after")
    def _fits_into_memory(self) -> TensorSpec:
        if (size := prod(axis for axis in self.axes if not isinstance(axis, Axis))) > _MAX_ELEMENTS:
            raise ValueError(
                f"{self.name} has {size} elements, and {_MAX_ELEMENTS} are the limit; export a smaller model"
            )
        return self

    def shape(self, sizes: Mapping[Axis, int]) -> tuple[int, ...]:
        """Return the shape of the tensor for these sizes of its named axes."""
        return tuple(sizes[axis] if isinstance(axis, Axis) else axis for axis in self.axes)


class StateSpec(TensorSpec):
    """Decoder state: graph input ``past_NAME``, output ``present_NAME``, both bound to one buffer.

    ``initial`` names the encoder output that a new slot starts from (axes without ``beam``: every beam starts alike);
    without it a new slot starts from zeros.
    """

    initial: str | None = None

    @property
    def past(self) -> str:
        """Decoder input that reads this state."""
        return f"past_{self.name}"

    @property
    def present(self) -> str:
        """Decoder output that writes this state."""
        return f"present_{self.name}"


class Graph(_Strict):
    """ONNX file with its inputs and outputs, except for the decoder's state and memory."""

    file: GraphFile
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class VerificationRecord(_Strict):
    """Results of ``dragoman-export``'s comparison of this precision with the PyTorch model.

    With a shortlist, ``max_abs_log_prob_difference`` covers the tokens on it. ``agreement_bleu``, for precisions that
    round or have a shortlist, is the BLEU of beam search with PyTorch's translations as references.
    """

    created: str
    versions: dict[str, str]
    shapes_checked: int
    max_abs_log_prob_difference: float
    sentences: int
    greedy_equal_ratio: float
    beam_equal_ratio: float
    beam_size: int
    reference_bleu: float | None = None
    export_bleu: float | None = None
    bleu_signature: str | None = None
    agreement_bleu: float | None = None


class Precision(_Strict):
    """Graphs of one numeric precision.

    ``memory`` is computed by the encoder once per source and read by the decoder at every step: each name is an encoder
    output (leading axis ``source``) and a decoder input (leading axis ``slot``). ``state`` is updated by the decoder.
    ``shortlist`` names the lexicon that yields the target tokens each sentence may use. ``columns`` are the part of the
    output layer that a grid's sentences share, ``column`` being their last axis: the encoder puts out those of the
    tokens that it is given, the decoder reads all in use. Memory named ``shortlist_...`` is then made by serving, not
    by the encoder. (Older bundles with a shortlist have columns of each slot as memory.)
    ``seven_bits`` says that integer weights are between -64 and 64: their products are exact on every processor.
    """

    devices: tuple[Literal["cpu", "cuda"], ...]
    encoder: Graph
    decoder: Graph
    memory: tuple[TensorSpec, ...]
    state: tuple[StateSpec, ...]
    verification: VerificationRecord
    shortlist: FileName | None = Field(default=None, exclude_if=lambda file: file is None)
    columns: tuple[TensorSpec, ...] = Field(default=(), exclude_if=lambda columns: not columns)
    seven_bits: bool = Field(default=False, exclude_if=lambda seven: not seven)

    @property
    def has_attention(self) -> bool:
        """Whether a step tells what each hypothesis attends to in its source."""
        return any(spec.name == ATTENTION for spec in self.decoder.outputs)


class SpecialIds(_Strict):
    """Token ids with a special meaning."""

    pad: TokenId
    unk: TokenId
    bos: TokenId
    eos: TokenId
    decoder_start: TokenId


class Limits(_Strict):
    """Limits of a request, in tokens of this bundle's vocabulary; the end token is not counted."""

    max_source_tokens: int = Field(gt=0, le=_MAX_TOKENS)
    max_target_tokens: int = Field(gt=0, le=_MAX_TOKENS)


TokenizerKind = Literal["sentencepiece", "words", "tokens", "moses"]


class Tokenizer(_Strict):
    """SentencePiece models, word vocabularies, plain tokens, or Moses' words; one file may serve both sides.

    With ``words``, a model generates placeholders for unknown words, which attended source words replace. A vocabulary
    beside a SentencePiece model says which token id each piece has; without one the ids are SentencePiece's own.
    ``source_bos`` and ``source_eos`` say which special tokens a source has around it.
    """

    kind: TokenizerKind = "sentencepiece"
    source: FileName
    target: FileName
    source_vocabulary: FileName | None = Field(default=None, exclude_if=lambda file: file is None)
    target_vocabulary: FileName | None = Field(default=None, exclude_if=lambda file: file is None)
    source_bos: bool = Field(default=False, exclude_if=lambda begins: not begins)
    source_eos: bool = Field(default=True, exclude_if=lambda ends: ends)

    @property
    def files(self) -> set[str]:
        """Names of all its files."""
        return {self.source, self.target, self.source_vocabulary, self.target_vocabulary} - {None}  # type: ignore[return-value]


class DecodingDefaults(_Strict):
    """Values of options that a request leaves unset."""

    beam_size: int = Field(default=4, ge=1, le=1024)
    length_penalty: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    early_stopping: EarlyStopping = Field(default=EarlyStopping.ON, exclude_if=lambda rule: rule is EarlyStopping.ON)
    min_length: int = Field(default=0, ge=0, le=_MAX_TOKENS, exclude_if=lambda length: not length)
    no_repeat_ngram_size: int = Field(default=0, ge=0, le=_MAX_TOKENS, exclude_if=lambda size: not size)


class SearchConventions(_Strict):
    """What searches do differently where no option says it, as the model's users know it.

    Attributes:
        renormalize: Tokens that are ruled out leave the others more likely; the decoder's graph computes it.
        ends_at_limit: The last token within ``max_length`` is the end token, whatever the model says, at no cost.
        ranked_at_limit: At ``max_length`` each of the best ``beam_size`` candidates becomes a hypothesis; otherwise
            unfinished ones only fill up the places of those that have not ended.
        prefix_scored: The log-probabilities of a forced prefix are part of the score.
        prefix_counted: Its tokens are part of the length that the score is divided by.
        end_after_prefix: Whether the end token may follow a prefix at once: as any candidate; as the best one only, and
            nothing takes its place where it is another; or at a price that makes another the last of all.
        beam_shrinks: A hypothesis that has ended keeps its place in the beam; otherwise the next best goes on instead.
    """

    renormalize: bool = False
    ends_at_limit: bool = False
    ranked_at_limit: bool = False
    prefix_scored: bool = True
    prefix_counted: bool = True
    end_after_prefix: Literal["any", "best", "costly"] = "any"
    beam_shrinks: bool = False


class LanguageTokens(_Strict):
    """Tokens that tell a model which language it has before it, or shall write.

    ``before_source`` stand before the text, those of the source language first. A translation begins with
    ``before_target``, for which the model has no choice: they cost nothing and are no part of the answer.
    """

    before_source: tuple[TokenId, ...] = Field(
        default=(), max_length=_MAX_LANGUAGE_TOKENS, exclude_if=lambda tokens: not tokens
    )
    before_target: tuple[TokenId, ...] = Field(
        default=(), max_length=_MAX_LANGUAGE_TOKENS, exclude_if=lambda tokens: not tokens
    )


@dataclass(frozen=True)
class LanguagePair:
    """A source and a target language, as BCP-47 tags, and the tokens that tell a model of both."""

    source: str
    target: str
    before_source: tuple[int, ...] = ()
    before_target: tuple[int, ...] = ()


LanguageTable = Annotated[dict[LanguageTag, LanguageTokens], Field(min_length=1, max_length=_MAX_LANGUAGES)]


class Languages(_Strict):
    """The languages that a model translates: from any of the sources into any of the targets."""

    sources: LanguageTable
    targets: LanguageTable

    @classmethod
    def between(cls, source: str, target: str) -> Languages:
        """Return the languages of a model of one pair, which needs no telling."""
        return cls(sources={source: LanguageTokens()}, targets={target: LanguageTokens()})

    @property
    def first(self) -> LanguagePair:
        """The first language of each side."""
        return LanguagePair(next(iter(self.sources)), next(iter(self.targets)))

    @property
    def in_words(self) -> str:
        """The languages for people; of very many, the first."""
        return f"{_listed(self.sources)} to {_listed(self.targets)}"

    @property
    def longest(self) -> tuple[int, int]:
        """The most tokens that a language adds to a source and to a translation."""
        source, target = ([*table.values()] for table in (self.sources, self.targets))
        before = max(len(one.before_source) for one in source) + max(len(one.before_source) for one in target)
        return before, max(len(one.before_target) for one in target)

    def has(self, source: str, target: str) -> bool:
        """Return whether these are among the languages; an empty tag stands for any."""
        asked = ((source, self.sources), (target, self.targets))
        return all(not tag or _find(tag, table) is not None for tag, table in asked)

    def pair(self, source: str, target: str) -> LanguagePair | None:
        """Return two languages, their tags in whatever case; an empty tag stands for the only language of its side.

        Returns:
            None if one of them is absent, or empty where there are several.
        """
        found = [
            _find(tag or (next(iter(table)) if len(table) == 1 else ""), table)
            for tag, table in ((source, self.sources), (target, self.targets))
        ]
        if found[0] is None or found[1] is None:
            return None
        sides = self.sources[found[0]], self.targets[found[1]]
        before = tuple(token for side in sides for token in side.before_source)
        return LanguagePair(found[0], found[1], before, sides[1].before_target)


def _find(tag: str, table: Mapping[str, LanguageTokens]) -> str | None:
    if tag in table:
        return tag
    return next((known for known in table if known.lower() == tag.lower()), None)


def _listed(tags: Mapping[str, LanguageTokens]) -> str:
    names = list(tags)
    rest = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + rest


class Architecture(_Strict):
    """Family and sizes, for people and tools; serving never branches on them."""

    family: str
    sizes: dict[str, int | float | str | bool]


class Manifest(_Strict):
    """Everything that serving needs to know about a bundle.

    In format version 2, ``source_language`` and ``target_language`` stood for ``languages``.
    """

    format_version: Literal[2, 3]
    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
    version: int = Field(ge=1)
    languages: Languages
    architecture: Architecture
    vocabulary_size: int = Field(gt=0, le=_MAX_VOCABULARY)
    special_ids: SpecialIds
    limits: Limits
    reverse_source: bool = False
    tokenizer: Tokenizer
    defaults: DecodingDefaults = DecodingDefaults()
    search: SearchConventions = Field(default=SearchConventions(), exclude_if=lambda one: one == SearchConventions())
    precisions: dict[str, Precision] = Field(min_length=1)
    files: dict[FileName, Sha256]

    @property
    def label(self) -> str:
        """The model's name and version, for people, metrics and logs."""
        return f"{self.name}/{self.version}"

    @property
    def has_attention(self) -> bool:
        """Whether the graphs of all precisions tell what each hypothesis attends to."""
        return all(precision.has_attention for precision in self.precisions.values())

    @property
    def graph_files(self) -> tuple[str, ...]:
        """The ONNX files of all precisions."""
        graphs = (graph for precision in self.precisions.values() for graph in (precision.encoder, precision.decoder))
        return tuple(dict.fromkeys(graph.file for graph in graphs))

    @model_validator(mode="before")
    @classmethod
    def _read_one_pair(cls, content: Any) -> Any:
        if not isinstance(content, dict) or content.get("format_version") != 2 or "languages" in content:
            return content
        rest = {key: value for key, value in content.items() if not key.endswith("_language")}
        sides = {f"{side}s": content.get(f"{side}_language") for side in ("source", "target")}
        return {**rest, "languages": {side: {tag: {}} for side, tag in sides.items() if isinstance(tag, str)}}

    @model_validator(mode="after")
    def _languages_have_tokens(self) -> Manifest:
        tokens = {token for table in self.languages.targets.values() for token in table.before_target}
        if max(tokens, default=0) >= self.vocabulary_size:
            raise ValueError(
                f"a target language has the token {max(tokens)}, the vocabulary has {self.vocabulary_size}"
            )
        return self

    @model_validator(mode="after")
    def _every_file_is_hashed(self) -> Manifest:
        named = {*self.tokenizer.files, *self.graph_files}
        for precision in self.precisions.values():
            if precision.shortlist is not None:
                named.add(precision.shortlist)
        if missing := sorted(named - self.files.keys()):
            raise ValueError(f"files without a sha256 in 'files': {', '.join(missing)}; export the bundle again")
        return self
