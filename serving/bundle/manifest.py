"""The bundle's manifest: the one contract between export and serving.

A bundle is a directory ``NAME/VERSION/`` holding ``manifest.json``, the ONNX graphs of each precision and the
SentencePiece models. Because inputs, memory and state are declared here as data, serving allocates, binds and moves
them without knowing which architecture it runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

FORMAT_VERSION: Final = 2

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Dtype = Literal["float32", "float16", "int64", "int32", "uint8", "bool"]
LanguageTag = Annotated[str, StringConstraints(pattern=r"^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$")]


class Axis(StrEnum):
    """The closed set of axes whose size is known only at run time; every other axis is declared by its size."""

    SLOT = "slot"  # sentences in flight in the decoder's grid
    SOURCE = "source"  # sentences of one encoder batch
    BEAM = "beam"  # live hypotheses of one sentence
    SRC = "src"  # source token positions
    ENTRY = "entry"  # cache entries of one sentence, shared by its hypotheses
    EDIT = "edit"  # log-prob edits of one hypothesis
    CANDIDATE = "candidate"  # best continuations of one sentence
    SHORTLIST = "shortlist"  # target tokens that one sentence may use


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TensorSpec(_Strict):
    """Name, dtype and axes of one tensor; an axis is an :class:`Axis` or a fixed size."""

    name: str
    dtype: Dtype
    axes: tuple[Axis | int, ...]

    def shape(self, sizes: Mapping[Axis, int]) -> tuple[int, ...]:
        """The tensor's shape where the named axes have ``sizes``."""
        return tuple(sizes[axis] if isinstance(axis, Axis) else axis for axis in self.axes)


class StateSpec(TensorSpec):
    """Decoder state: graph input ``past_NAME``, output ``present_NAME``, both bound to one buffer.

    ``initial`` names the encoder output a new slot starts from (axes without ``beam``: every beam starts alike);
    without it a slot starts from zeros, which the graph must mask.
    """

    initial: str | None = None

    @property
    def past(self) -> str:
        """The decoder input that reads this state."""
        return f"past_{self.name}"

    @property
    def present(self) -> str:
        """The decoder output that writes this state."""
        return f"present_{self.name}"


class Graph(_Strict):
    """One ONNX file with its declared inputs and outputs, state and memory excepted for the decoder."""

    file: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class VerificationRecord(_Strict):
    """Measurements of a precision against the PyTorch model, made by ``dragoman-export``.

    ``max_abs_log_prob_difference`` of a precision with a shortlist is that of the tokens on it. ``agreement_bleu``, of
    precisions that round or have a shortlist, is BLEU of beam search against PyTorch's translations as references.
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
    """The graphs of one numeric precision.

    ``memory`` is what the encoder computes once per source and the decoder reads at every step: each name is an encoder
    output (leading axis ``source``) and a decoder input (leading axis ``slot``). ``state`` is what the decoder updates.
    ``shortlist`` names the lexicon out of which serving tells the encoder which target tokens each sentence may use.
    """

    devices: tuple[Literal["cpu", "cuda"], ...]
    encoder: Graph
    decoder: Graph
    memory: tuple[TensorSpec, ...]
    state: tuple[StateSpec, ...]
    verification: VerificationRecord
    shortlist: str | None = Field(default=None, exclude_if=lambda file: file is None)


class SpecialIds(_Strict):
    """Token ids with a meaning of their own."""

    pad: int
    unk: int
    bos: int
    eos: int
    decoder_start: int


class Limits(_Strict):
    """Sizes no request may exceed, in tokens of this bundle's vocabulary; the end token is not counted."""

    max_source_tokens: int = Field(gt=0)
    max_target_tokens: int = Field(gt=0)


TokenizerKind = Literal["sentencepiece", "words"]


class Tokenizer(_Strict):
    """SentencePiece models or word vocabularies; one file may serve both sides.

    With ``words`` a model generates placeholders for unknown words, and the source word attended to takes their place.
    """

    kind: TokenizerKind = "sentencepiece"
    source: str
    target: str


class DecodingDefaults(_Strict):
    """What a request gets that leaves an option unset."""

    beam_size: int = Field(default=4, ge=1)
    length_penalty: float = Field(default=1.0, ge=0)


class Architecture(_Strict):
    """Family and sizes, for people and tools; serving does not branch on them."""

    family: str
    sizes: dict[str, int | float | str | bool]


class Manifest(_Strict):
    """Everything serving must know about a bundle."""

    format_version: Literal[2]
    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
    version: int = Field(ge=1)
    source_language: LanguageTag
    target_language: LanguageTag
    architecture: Architecture
    vocabulary_size: int = Field(gt=0)
    special_ids: SpecialIds
    limits: Limits
    reverse_source: bool = False
    tokenizer: Tokenizer
    defaults: DecodingDefaults = DecodingDefaults()
    precisions: dict[str, Precision] = Field(min_length=1)
    files: dict[str, Sha256]

    @property
    def label(self) -> str:
        """The model's name and version, for people, metrics and logs."""
        return f"{self.name}/{self.version}"

    @property
    def pair(self) -> str:
        """The languages it translates between, for people."""
        return f"{self.source_language} to {self.target_language}"

    @model_validator(mode="after")
    def _every_file_is_hashed(self) -> Manifest:
        named = {self.tokenizer.source, self.tokenizer.target}
        for precision in self.precisions.values():
            named |= {precision.encoder.file, precision.decoder.file}
            if precision.shortlist is not None:
                named.add(precision.shortlist)
        if missing := sorted(named - self.files.keys()):
            raise ValueError(f"files without a sha256 in 'files': {', '.join(missing)}; export the bundle again")
        return self
