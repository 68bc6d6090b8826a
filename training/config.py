"""The YAML configuration of a training run, and dotted overrides of it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from training.data.cleaning import FilterSettings
from training.data.corpus import CorpusSettings
from training.data.parallel_text import CorpusFiles
from training.data.sampler import BatchSettings
from training.data.subwords import SubwordSettings
from training.errors import ConfigError, TrainingError
from training.models.rnn import RnnSettings
from training.models.transformer import TransformerSettings


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataConfig(_Section):
    """What the model learns from."""

    train: CorpusFiles
    valid: CorpusFiles
    weights: dict[str, float] | None = None
    filters: FilterSettings = FilterSettings()
    max_tokens: int = Field(default=100, ge=1)
    reverse_source: bool = False


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


class ValidationConfig(_Section):
    """How progress is measured."""

    every_steps: int = Field(default=1000, ge=1)
    max_pairs: int = Field(default=500, ge=1)
    max_length: int = Field(default=100, ge=1)
    metric: Literal["bleu", "chrf", "loss"] = "bleu"


class TrainerConfig(_Section):
    """What is passed on to the Lightning Trainer, and what the callbacks do."""

    max_steps: int = Field(default=100_000, ge=1)
    max_time: str | None = None
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    accelerator: str = "auto"
    devices: int = Field(default=1, ge=1)
    nodes: int = Field(default=1, ge=1)
    strategy: str = "auto"
    accumulate: int = Field(default=1, ge=1)
    clip_norm: float | None = 1.0
    checkpoint_every_steps: int = Field(default=500, ge=1)
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
    tokenizer: SubwordSettings = SubwordSettings()
    model: Annotated[TransformerSettings | RnnSettings, Field(discriminator="family")]
    batch: BatchSettings = BatchSettings()
    optimizer: OptimizerConfig = OptimizerConfig()
    validation: ValidationConfig = ValidationConfig()
    trainer: TrainerConfig = TrainerConfig()

    @field_validator("languages")
    @classmethod
    def _language_tags(cls, value: tuple[str, str]) -> tuple[str, str]:
        for tag in value:
            if not re.fullmatch(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*", tag):
                raise ValueError(f"'{tag}' is not a BCP-47 language tag such as 'en' or 'pt-BR'")
        return value

    @model_validator(mode="after")
    def _positions_suffice(self) -> Self:
        needed = max(self.data.max_tokens, self.validation.max_length) + 1
        if isinstance(self.model, TransformerSettings) and self.model.max_positions < needed:
            raise ValueError(
                f"model.max_positions is {self.model.max_positions}, but data.max_tokens and validation.max_length "
                f"need {needed} with the special token; raise it or lower them"
            )
        return self

    def corpus(self) -> CorpusSettings:
        """What decides the content of the token store."""
        data = self.data
        return CorpusSettings(data.train, data.weights, data.filters, data.max_tokens, self.tokenizer)


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
            raise ConfigError(f"The configuration uses ${{{name}}}, but the environment variable {name} is not set.")
        return os.environ[name]

    return _VARIABLE.sub(replacement, value)


def apply_override(tree: dict[str, Any], override: str) -> None:
    """Set one value, in place, by a dotted path such as `optimizer.learning_rate=3e-4`; the value is YAML.

    Raises:
        ConfigError: If the override has no `=`, or its path goes through a value that is not a section.
    """
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise ConfigError(f"'{override}' is not an override; write key=value, such as trainer.max_steps=1000.")
    *parents, name = path.split(".")
    node = tree
    for parent in parents:
        child = node.setdefault(parent, {})
        if not isinstance(child, dict):
            raise ConfigError(f"The override '{override}' goes through '{parent}', which is a value, not a section.")
        node = child
    node[name] = yaml.safe_load(text)


def parse_config(tree: dict[str, Any]) -> TrainingConfig:
    """Check a configuration that has been read from YAML.

    Raises:
        ConfigError: With every unknown key and bad value in one message.
    """
    try:
        return TrainingConfig.model_validate(_expand(tree))
    except ValidationError as error:
        faults = [": ".join(filter(None, (".".join(str(p) for p in e["loc"]), e["msg"]))) for e in error.errors()]
        raise ConfigError("The configuration is wrong: " + "; ".join(faults)) from error
    except ConfigError:
        raise
    except TrainingError as error:
        raise ConfigError(f"The configuration is wrong: {error}") from error


def load_config(path: Path, overrides: Sequence[str] = ()) -> TrainingConfig:
    """Read a YAML file, apply overrides in order, expand ${VARIABLES}, and check the result.

    Raises:
        ConfigError: If the file is missing or is no YAML mapping, or any key or value is wrong.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"The configuration {path} cannot be read: {error.strerror}.") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"The configuration {path} is not valid YAML: {error}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"The configuration {path} must be a mapping of sections.")
    for override in overrides:
        apply_override(tree, override)
    return parse_config(tree)
