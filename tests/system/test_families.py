"""Every family of models is trained, exported, verified and served, and answers exactly right."""

from dataclasses import replace
from typing import Any

import pytest

from scripts.families import (
    CONFIGS,
    DECODER_ONLY,
    ENOUGH,
    FAMILIES,
    MASKED_LM,
    RNN,
    TRANSFORMER,
    Outcome,
    outcomes,
)
from training.config import load_config
from training.models.build import ModelSettings

# All that makes configurations of one kind differ beside their kind.
LONGEST = {"max_positions": 100}
SIZES: dict[str, dict[str, Any]] = {
    "rnn": RNN,
    "transformer": {**TRANSFORMER, **LONGEST},
    "decoder_only": {**DECODER_ONLY, **LONGEST},
    "masked_lm": {**MASKED_LM, **LONGEST},
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    return {outcome.name: outcome for outcome in outcomes(tmp_path_factory.mktemp("families"), tuple(FAMILIES))}


@pytest.mark.timeout(1800)  # the first one waits until all of them are built
@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_answers_exactly_right(found: dict[str, Outcome], name: str) -> None:
    assert name in found, "it was not trained, or its export was refused; standard error says why"
    print(found[name])
    assert min(found[name].exact.values()) >= ENOUGH
    assert found[name].precision == "int8"


def model_but_for_sizes(config: str) -> ModelSettings:
    data = "data={train: {tsv: unread}, valid: {tsv: unread}}"
    model: Any = load_config(CONFIGS / f"{config}.yaml", [data]).model
    same: ModelSettings = replace(model, dropout=0.0, **SIZES[model.family])
    return same


def test_every_configuration_is_of_a_family() -> None:
    starts = [family.start.config for family in FAMILIES.values() if family.start]
    tested = [model_but_for_sizes(config) for config in [*starts, *(family.config for family in FAMILIES.values())]]
    assert [path.name for path in CONFIGS.glob("*.yaml") if model_but_for_sizes(path.stem) not in tested] == []
