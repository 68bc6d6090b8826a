"""The YAML configuration of a training run, and dotted overrides of it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from training.data.augmentation import AugmentationSettings
from training.data.cleaning import FilterSettings
from training.data.corpora import Corpora, Mixture
from training.data.corpus import CorpusSettings
from training.data.sampler import BatchSettings
from training.data.tokenizer import TokenizerSettings
from training.embeddings import EmbeddingSettings
from training.errors import ConfigError, TrainingError
from training.models.build import ModelSettings
from training.models.transformer import TransformerSettings


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataConfig(_Section):
    """Training and development data."""

    train: Corpora
    valid: Corpora
    weights: dict[str, float] | None = None
    temperature: float = 1.0
    filters: FilterSettings = FilterSettings()
    augmentation: AugmentationSettings | None = None
    max_tokens: int = Field(default=100, ge=1)
    reverse_source: bool = False

    @model_validator(mode="after")
    def _mixture_is_possible(self) -> Self:
        self.mixture()
        return self

    def mixture(self) -> Mixture:
        """Return the copies of the pairs of each label per pass."""
        return Mixture(self.weights, self.temperature)


class OptimizerConfig(_Section):
    """Adam (Kingma and Ba 2015), its schedule, and the running average of the weights."""

    learning_rate: float = Field(default=1e-3, gt=0)
    warmup_steps: int = Field(default=1000, ge=1)
    cooldown: float = Field(default=0.0, ge=0, le=1)
    betas: tuple[float, float] = (0.9, 0.98)
    epsilon: float = 1e-9
    weight_decay: float = Field(default=0.0, ge=0)
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    average_decay: float = Field(default=0.999, ge=0, lt=1)


class AlignmentConfig(_Section):
    """Guided alignment: the head of the decoder that learns to attend to what it translates."""

    weight: float = Field(default=0.1, gt=0)
    layer: int = -1
    head: int = Field(default=0, ge=0)
    pairs: int = Field(default=200_000, ge=1)
    share: float = Field(default=1.0, gt=0, le=1)


class ValidationConfig(_Section):
    """Validation: how progress is measured."""

    every_steps: int = Field(default=1000, ge=1)
    max_pairs: int = Field(default=500, ge=1)
    max_length: int = Field(default=100, ge=1)
    metric: Literal["bleu", "chrf", "loss"] = "bleu"
    patience: int | None = Field(default=None, ge=1)


class TrainerConfig(_Section):
    """Settings of the Lightning Trainer and of the callbacks."""

    max_steps: int = Field(default=100_000, ge=1)
    max_time: str | None = Field(default=None, pattern=r"^\d\d:\d\d:\d\d:\d\d$")
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    accelerator: str = "auto"
    devices: int = Field(default=1, ge=1)
    nodes: int = Field(default=1, ge=1)
    strategy: str = "auto"
    accumulate: int = Field(default=1, ge=1)
    compile: Literal["inductor", "aot_eager"] | None = None
    recompute: bool = False
    clip_norm: float | None = 1.0
    checkpoint_every_steps: int = Field(default=500, ge=1)
    keep_checkpoints: int = Field(default=0, ge=0)
    log_every_steps: int = Field(default=20, ge=1)
    threads: int | None = Field(default=None, ge=1)
    progress_bar: bool = True
    tensorboard: bool = True


class TrainingConfig(_Section):
    """A whole run."""

    run_dir: Path
    cache_dir: Path | None = None
    languages: tuple[str, str]
    seed: int = 1
    data: DataConfig
    tokenizer: TokenizerSettings = TokenizerSettings()
    embeddings: EmbeddingSettings = EmbeddingSettings()
    init_from: Path | None = None
    model: Annotated[ModelSettings, Field(discriminator="family")]
    batch: BatchSettings = BatchSettings()
    optimizer: OptimizerConfig = OptimizerConfig()
    alignment: AlignmentConfig | None = None
    validation: ValidationConfig = ValidationConfig()
    trainer: TrainerConfig = TrainerConfig()

    @model_validator(mode="after")
    def _frozen_rows_stay(self) -> Self:
        if self.embeddings.frozen and (self.optimizer.weight_decay > 0 or self.trainer.strategy == "fsdp"):
            raise ValueError(
                "embeddings.frozen is possible neither with optimizer.weight_decay nor with strategy fsdp; leave it out"
            )
        return self

    @model_validator(mode="after")
    def _strategy_suffices(self) -> Self:
        if self.trainer.strategy == "fsdp" and self.trainer.compile is not None:
            raise ValueError("trainer.compile is not possible with strategy fsdp; leave one of them out")
        return self

    @model_validator(mode="after")
    def _alignment_is_possible(self) -> Self:
        if self.alignment is None:
            return self
        if self.data.reverse_source or self.tokenizer.sampling is not None:
            raise ValueError("alignment needs tokens as they are: leave out data.reverse_source and tokenizer.sampling")
        model = self.model
        layers, heads = (model.decoder_layers, model.heads) if isinstance(model, TransformerSettings) else (0, 0)
        if not -layers <= self.alignment.layer < layers or self.alignment.head >= heads:
            raise ValueError(
                f"alignment names head {self.alignment.head} of layer {self.alignment.layer}, but the decoder has "
                f"{layers} layers of {heads} heads; only an encoder-decoder Transformer has such"
            )
        return self

    @field_validator("languages")
    @classmethod
    def _language_tags(cls, value: tuple[str, str]) -> tuple[str, str]:
        for tag in value:
            if not re.fullmatch(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*", tag):
                raise ValueError(f"'{tag}' is not a BCP-47 language tag such as 'en' or 'pt-BR'")
        return value

    @model_validator(mode="after")
    def _positions_suffice(self) -> Self:
        self.model.check_lengths(self.data.max_tokens, max(self.data.max_tokens, self.validation.max_length))
        return self

    def corpus(self) -> CorpusSettings:
        """Return all that decides the content of the token store."""
        data = self.data
        return CorpusSettings(
            data.train,
            self.languages,
            data.mixture(),
            data.filters,
            data.max_tokens,
            self.tokenizer,
            self.seed,
            data.augmentation,
            None if self.alignment is None else self.alignment.pairs,
            1.0 if self.alignment is None else self.alignment.share,
        )


_VARIABLE = re.compile(r"\$\{(\w+)\}")


def _expand(value: Any) -> Any:
    """Replace ${NAME} in every string by the environment variable of that name."""
    if isinstance(value, dict):
        return {k: _expand(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_expand(v) for v in value]
    if not isinstance(value, str):
        return value

    def replacement(match: re.Match[str]) -> str:
        name = match[1]
        if name not in os.environ:
            raise ConfigError(f"the configuration uses ${{{name}}}, but the environment variable {name} is not set")
        return os.environ[name]

    return _VARIABLE.sub(replacement, value)


def apply_override(tree: dict[str, Any], override: str) -> None:
    """Set one value, in place, by a dotted path such as ``optimizer.learning_rate=3e-4``; the value is YAML.

    Raises:
        ConfigError: If the override has no ``=``, or its path goes through a value that is not a section.
    """
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise ConfigError(f"'{override}' is not an override; write key=value, such as trainer.max_steps=1000")
    *parents, name = path.split(".")
    node = tree
    for parent in parents:
        child = node.setdefault(parent, {})
        if not isinstance(child, dict):
            raise ConfigError(f"the override '{override}' goes through '{parent}', which is a value, not a section")
        node = child
    node[name] = yaml.safe_load(text)


class _Places:
    """Find where each key of a YAML text stands, to be named in errors."""

    def __init__(self, name: str, text: str = "") -> None:
        self._name, self._root = name, yaml.compose(text) if text else None

    def of(self, keys: Sequence[int | str]) -> str:
        """File and line of a key, of as much of its path as is there; empty if there is no file."""
        node, line = self._root, None
        for key in keys:
            child = self._child(node, key)
            # pydantic's path also names the chosen member of a union, which no YAML key is.
            if child is not None:
                node, line = child[1], child[0].start_mark.line + 1
        return f"{self._name}, line {line}, " if line is not None else ""

    @staticmethod
    def _child(node: yaml.Node | None, key: int | str) -> tuple[yaml.Node, yaml.Node] | None:
        if isinstance(node, yaml.MappingNode):
            return next(((k, v) for k, v in node.value if k.value == key), None)
        if isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
            return node.value[key], node.value[key]
        return None


def parse_config(tree: dict[str, Any], places: _Places | None = None) -> TrainingConfig:
    """Check a configuration that has been read from YAML.

    Raises:
        ConfigError: With every unknown key and bad value in one message.
    """
    places = places or _Places("")
    try:
        return TrainingConfig.model_validate(_expand(tree))
    except ValidationError as error:
        faults = []
        for fault in error.errors():
            unknown = fault["type"] in {"extra_forbidden", "unexpected_keyword_argument"}
            said = "this key is unknown; remove it or correct its spelling" if unknown else fault["msg"]
            path = ".".join(str(part) for part in fault["loc"])
            faults.append(places.of(fault["loc"]) + ": ".join(filter(None, (path, said))))
        raise ConfigError("the configuration is wrong: " + "; ".join(faults)) from error
    except ConfigError:
        raise
    except TrainingError as error:
        raise ConfigError(f"the configuration is wrong: {error}") from error


def _read(path: Path) -> tuple[dict[str, Any], str]:
    """Return a YAML file's sections, and its text."""
    try:
        text = path.read_text(encoding="utf-8")
        tree = yaml.safe_load(text)
    except OSError as error:
        raise ConfigError(f"the configuration {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"the configuration {path} is not UTF-8; convert it first") from error
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"the configuration {path} is not valid YAML: {reason}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"the configuration {path} must be a mapping of sections")
    return tree, text


def load_config(path: Path, overrides: Sequence[str] = ()) -> TrainingConfig:
    """Read a YAML file, apply overrides in order, expand ${VARIABLES}, and check the result.

    A file that ``extends`` another one beside it has that one's sections where it has none of its own.

    Raises:
        ConfigError: If a file is missing or is no YAML mapping, or any key or value is wrong.
    """
    tree, text = _read(path)
    base = tree.pop("extends", None)
    if base is not None:
        tree = {**_read(path.parent / str(base))[0], **tree}
    for override in overrides:
        apply_override(tree, override)
    return parse_config(tree, _Places(str(path), text))
