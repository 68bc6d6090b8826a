"""What the router knows of languages is made once for the models that are loaded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import pytest

from serving.api.language_routing import LanguageRouter
from serving.api.models import ModelRegistry
from serving.bundle.manifest import Languages, LanguageTokens
from serving.errors import InvalidRequest


@dataclass
class Described:
    languages: Languages


@dataclass
class Loaded:
    label: str
    manifest: Described


@dataclass
class Registry:
    loaded: list[Loaded] = field(default_factory=list)

    def models(self) -> tuple[Loaded, ...]:
        return tuple(self.loaded)

    def is_default(self, model: Loaded) -> bool:
        return model is self.loaded[-1]

    def served_pairs(self) -> tuple[str, ...]:
        return ("as loaded",)


def many(*tags: str) -> Languages:
    return Languages(sources={tag: LanguageTokens() for tag in tags}, targets={tag: LanguageTokens() for tag in tags})


def test_directions_follow_the_models() -> None:
    registry = Registry([Loaded("a/1", Described(Languages.between("en", "fr")))])
    router = LanguageRouter(cast("ModelRegistry", registry))
    assert router.targets() == {"en": ["fr"]}
    made = router._directions()
    assert router._directions() is made
    registry.loaded.append(Loaded("b/1", Described(many("en", "fr", "de"))))
    assert router.languages() == ["de", "en", "fr"]
    assert router.pair("EN-gb", "de") == ("en", "de")
    assert router._directions().labels["en", "fr"] == "b/1"  # the default one
    registry.loaded.pop()
    assert router._directions().labels == {("en", "fr"): "a/1"}
    with pytest.raises(InvalidRequest, match="'de'"):
        router.pair("en", "de")
