from pathlib import Path

import pytest
import yaml

from training.cli import main
from training.config import apply_override, load_config
from training.data.parallel_text import CorpusFiles
from training.errors import ConfigError
from training.models.rnn import RnnSettings
from training.models.transformer import TransformerSettings

MINIMAL = """
run_dir: runs/x
languages: [en, fr]
data:
  train: {source: "${CORPUS}/a.en", target: "${CORPUS}/a.fr"}
  valid: {tsv: valid.tsv}
model: {family: transformer, dim: 64, heads: 8}
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CORPUS", "/data")
    path = tmp_path / "c.yaml"
    path.write_text(MINIMAL, encoding="utf-8")
    return path


def test_values_defaults_and_variables(config: Path) -> None:
    loaded = load_config(config)
    assert loaded.model == TransformerSettings(dim=64, heads=8)
    assert loaded.data.train == (CorpusFiles(source=Path("/data/a.en"), target=Path("/data/a.fr")),)
    assert loaded.optimizer.label_smoothing == 0.1


def test_overrides_are_dotted_yaml_and_the_last_one_wins(config: Path) -> None:
    overrides = [
        "optimizer.learning_rate=3e-4",
        "optimizer.learning_rate=2.0e-4",
        "data.weights={a: 1.0}",
        "model={family: rnn, cell: gru}",
        "trainer.clip_norm=null",
    ]
    loaded = load_config(config, overrides)
    assert loaded.optimizer.learning_rate == 2e-4
    assert loaded.data.weights == {"a": 1.0}
    assert loaded.model == RnnSettings(cell="gru")
    assert loaded.trainer.clip_norm is None


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.lerning_rate=1", r"optimizer\.lerning_rate: this key is unknown"),
        ("model.depth=3", r"model\.transformer\.depth: this key is unknown"),
        ("data.filters.max_word=3", r"data\.filters\.max_word: this key is unknown"),
        ("nonsense=1", r"nonsense: this key is unknown"),
        ("trainer.max_steps=0", r"trainer\.max_steps: .*greater than or equal to 1"),
        ("model.heads=7", "7 heads do not divide"),
        ("model.family=cnn", "'transformer', 'rnn'"),
        ("languages=[en, 'f r']", "not a BCP-47"),
        ("data.valid={source: a}", "exactly one"),
        ("model.max_positions=100", r"max_positions is 100, .* need 101"),
        ("seed", "not an override"),
        ("seed.x=1", r"through 'seed', which is a value"),
        ("run_dir=${UNSET_VARIABLE}", "UNSET_VARIABLE is not set"),
    ],
)
def test_each_mistake_is_one_clear_error(config: Path, override: str, message: str) -> None:
    overrides = ["seed=1", override]
    with pytest.raises(ConfigError, match=message) as error:
        load_config(config, overrides)
    assert "\n" not in str(error.value)


def test_all_mistakes_are_told_at_once(config: Path) -> None:
    with pytest.raises(ConfigError, match=r"nonsense: .*; trainer\.devices: |trainer\.devices: .*; nonsense: "):
        load_config(config, ["nonsense=1", "trainer.devices=0"])


def test_command_fails_with_one_line(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(config), "trainer.max_stepz=5"]) == 1
    errors = capsys.readouterr().err
    assert errors.startswith("dragoman-train: the configuration is wrong: trainer.max_stepz:")
    assert errors.count("\n") == 1
    assert main([str(config.with_name("none.yaml"))]) == 1
    config.write_text("- a list", encoding="utf-8")
    assert main([str(config)]) == 1


def test_mistakes_in_the_file_are_named_with_their_line(config: Path) -> None:
    text = MINIMAL.replace("dim: 64", "dimm: 64") + "trainer:\n  max_stepz: 5\n  devices: 0\n"
    config.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        load_config(config)
    said = str(error.value)
    assert "c.yaml, line 7, model.transformer.dimm: this key is unknown" in said
    assert "c.yaml, line 9, trainer.max_stepz: this key is unknown" in said
    assert "c.yaml, line 10, trainer.devices: " in said
    config.write_text(MINIMAL.replace("{tsv: valid.tsv}", "[{tsv: valid.tsv}, {tsv: a, names: b}]"), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"c\.yaml, line 6, data\.valid\.1\.files\.names: this key is unknown"):
        load_config(config)
    config.write_text("a: [", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"c\.yaml is not valid YAML: .* line 1") as error:
        load_config(config)
    assert "\n" not in str(error.value)


def test_a_file_extends_another_section_by_section(config: Path) -> None:
    other = config.with_name("other.yaml")
    other.write_text("extends: c.yaml\nrun_dir: runs/y\nmodel: {family: rnn, cell: gru}\n", encoding="utf-8")
    loaded = load_config(other, ["seed=3"])
    assert (loaded.run_dir, loaded.model, loaded.seed) == (Path("runs/y"), RnnSettings(cell="gru"), 3)
    assert loaded.data == load_config(config).data
    other.write_text("extends: none.yaml\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"none.yaml cannot be read"):
        load_config(other)
    other.with_name("third.yaml").write_text("extends: other.yaml\n", encoding="utf-8")
    other.write_text("extends: c.yaml\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"extends: this key is unknown"):
        load_config(other.with_name("third.yaml"))


def test_override_makes_missing_sections() -> None:
    tree = yaml.safe_load(MINIMAL)
    apply_override(tree, "validation.every_steps=7")
    assert tree["validation"] == {"every_steps": 7}


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[3] / "training/configs").glob("*.yaml")), ids=lambda p: p.stem
)
def test_configs_in_the_repository_are_valid(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRAGOMAN_DATA", "/data")
    assert load_config(path).languages[0] == "en"
