"""The models a server has loaded, by name and version."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from serving.bundle.manifest import Manifest
from serving.engine.observer import EngineSnapshot
from serving.engine.translator import Translator
from serving.engine.validation import ServingLimits
from serving.errors import FieldViolation, InvalidRequest, NotFound, StartupError


@dataclass(frozen=True)
class ServedModel:
    """One version of one model, ready to translate.

    Attributes:
        manifest: Of its bundle.
        precision: Key of ``manifest.precisions`` that runs.
        device: Where it really runs: ``cpu`` or ``cuda``.
        limits: What the operator allows.
        max_contents: Most texts in one request.
        translator: Text in, translations out.
        snapshot: Its engine's gauges.
        close: Ends its engine.
    """

    manifest: Manifest
    precision: str
    device: str
    limits: ServingLimits
    max_contents: int
    translator: Translator
    snapshot: Callable[[], EngineSnapshot]
    close: Callable[[], None]

    @property
    def label(self) -> str:
        """The model's name in metrics and logs."""
        return f"{self.manifest.name}/{self.manifest.version}"

    @property
    def pair(self) -> str:
        """The languages it translates between, for people."""
        return f"{self.manifest.source_language} to {self.manifest.target_language}"


class ModelRegistry:
    """Finds models. Filled while the server loads, only read afterwards."""

    def __init__(self, default_name: str = "") -> None:
        """Starts empty; without a default name the only model is the default."""
        self._default_name = default_name
        self._models: dict[tuple[str, int], ServedModel] = {}

    def add(self, model: ServedModel) -> None:
        """Adds a model; a second one of the same name and version replaces it."""
        self._models[model.manifest.name, model.manifest.version] = model

    def models(self) -> tuple[ServedModel, ...]:
        """All models, by name, the newest version first."""
        return tuple(sorted(self._models.values(), key=lambda m: (m.manifest.name, -m.manifest.version)))

    def check(self) -> None:
        """Makes sure that something is served and that the default model exists.

        Raises:
            StartupError: It is not so.
        """
        if not self._models:
            raise StartupError("there is no model to serve")
        names = self._names()
        if self._default_name and self._default_name not in names:
            raise StartupError(f"default_model {self._default_name!r} is not loaded; loaded: {', '.join(names)}")

    def is_default(self, model: ServedModel) -> bool:
        """Whether a request that names no model gets this one."""
        name = model.manifest.name
        return name == self._default() and model is self._find(name, 0)

    def resolve(self, name: str, version: int) -> ServedModel:
        """Finds the model a request asks for; an empty name is the default model, version 0 the newest.

        Raises:
            InvalidRequest: The name is missing and there is no default.
            NotFound: There is no such model or version.
        """
        if not (wanted := name or self._default()):
            served = ", ".join(self._names())
            raise InvalidRequest(
                [FieldViolation("model", f"names no model and this server has no default; take one of {served}")]
            )
        if (found := self._find(wanted, version)) is None:
            served = ", ".join(model.label for model in self.models())
            asked = f"{wanted}/{version}" if version else wanted
            raise NotFound(f"there is no model {asked!r}; served: {served}")
        return found

    def check_languages(self, model: ServedModel, source: str, target: str) -> list[FieldViolation]:
        """Compares the languages a request gives, empty ones excepted, with those of its model."""
        manifest = model.manifest
        given = (
            ("source_language", source, manifest.source_language),
            ("target_language", target, manifest.target_language),
        )
        served = ", ".join(f"{other.pair} by {other.label}" for other in self.models())
        return [
            FieldViolation(field, f"is {asked!r}, but {model.label} translates {model.pair}; served: {served}")
            for field, asked, actual in given
            if asked and asked.lower() != actual.lower()
        ]

    def _default(self) -> str:
        names = self._names()
        return self._default_name or (names[0] if len(names) == 1 else "")

    def _names(self) -> list[str]:
        return sorted({name for name, _ in self._models})

    def _find(self, name: str, version: int) -> ServedModel | None:
        if version:
            return self._models.get((name, version))
        versions = [known for other, known in self._models if other == name]
        return self._models[name, max(versions)] if versions else None
