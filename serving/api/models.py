"""Models that a server has loaded, by name and version."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields

from serving.api.in_flight import InFlight
from serving.bundle.manifest import Manifest
from serving.engine.observer import EngineSnapshot
from serving.engine.translator import Translator
from serving.engine.validation import ServingLimits
from serving.errors import FieldViolation, InvalidRequest, NotFound, StartupError
from serving.model_messages import Model, ModelDefaults, ModelLimits, Verification


@dataclass(frozen=True, eq=False)
class ServedModel:
    """One version of one model, ready to translate.

    Attributes:
        manifest: Of its bundle.
        precision: Key of ``manifest.precisions`` that runs.
        device: Where it really runs: ``cpu`` or ``cuda``.
        limits: The operator's limits.
        translator: Text in, translations out.
        snapshot: Read its engine's gauges.
        close: End its engine.
        calls: Calls that use it now.
    """

    manifest: Manifest
    precision: str
    device: str
    limits: ServingLimits
    translator: Translator
    snapshot: Callable[[], EngineSnapshot]
    close: Callable[[], None]
    calls: InFlight = field(default_factory=InFlight)

    @property
    def label(self) -> str:
        """The model's name in metrics and logs."""
        return self.manifest.label

    def described(self, *, is_default: bool) -> Model:
        """Describe the model to callers."""
        manifest, languages = self.manifest, self.manifest.languages
        record = manifest.precisions[self.precision].verification
        figures = {figure.name: getattr(record, figure.name) for figure in fields(Verification)}
        measured = {name: value for name, value in figures.items() if value is not None}
        return Model(
            name=manifest.name,
            version=manifest.version,
            is_default=is_default,
            source_language=_only(languages.sources),
            target_language=_only(languages.targets),
            source_languages=tuple(languages.sources),
            target_languages=tuple(languages.targets),
            family=manifest.architecture.family,
            sizes={name: json.dumps(value) for name, value in manifest.architecture.sizes.items()},
            limits=ModelLimits(
                max_source_tokens=manifest.limits.max_source_tokens,
                max_target_tokens=manifest.limits.max_target_tokens,
                max_beam_size=self.limits.max_beam_size,
                max_contents=self.limits.max_contents,
                max_characters=self.limits.max_characters,
            ),
            defaults=ModelDefaults(**manifest.defaults.model_dump()),
            precision=self.precision,
            device=self.device,
            verification=Verification(**measured),
            has_attention=manifest.has_attention,
        )


def _in_order(models: Mapping[tuple[str, int], ServedModel]) -> tuple[ServedModel, ...]:
    return tuple(sorted(models.values(), key=lambda model: (model.manifest.name, -model.manifest.version)))


def _only(tags: Collection[str]) -> str:
    return next(iter(tags)) if len(tags) == 1 else ""


class ModelRegistry:
    """Models by name and version, which come and go while calls run.

    Each change replaces the whole table, so that a lookup, on any thread, sees the old one or the new one.
    """

    def __init__(self, default_name: str = "") -> None:
        """Start empty; without a default name the only model is the default."""
        self._default_name = default_name
        self._models: dict[tuple[str, int], ServedModel] = {}
        self._pairs: tuple[dict[tuple[str, int], ServedModel], tuple[str, ...]] = self._models, ()

    def add(self, model: ServedModel) -> ServedModel | None:
        """Add a model, and return the one of the same name and version whose place it takes."""
        key = model.manifest.name, model.manifest.version
        replaced = self._models.get(key)
        self._models = self._models | {key: model}
        return replaced

    def remove(self, model: ServedModel) -> None:
        """Take a model out.

        Raises:
            InvalidRequest: It is the only version of the default model.
        """
        left = {key: other for key, other in self._models.items() if other is not model}
        if model.manifest.name == self._default() and not any(name == model.manifest.name for name, _ in left):
            problem = f"is {model.label}, the only version of the default model; make another model the default first"
            raise InvalidRequest([FieldViolation("model", problem)])
        self._models = left

    def set_default(self, name: str) -> ServedModel:
        """Make a model the one for requests that name none, and return its newest version.

        Raises:
            InvalidRequest: The name is empty.
            NotFound: There is no such model.
        """
        if not name:
            raise InvalidRequest([FieldViolation("name", f"is empty; take one of {', '.join(self._names())}")])
        model = self.resolve(name, 0)
        self._default_name = name
        return model

    def models(self) -> tuple[ServedModel, ...]:
        """Return all models, by name, the newest version first."""
        return _in_order(self._models)

    def check(self) -> None:
        """Make sure that something is served and that the default model exists.

        Raises:
            StartupError: There is no model, or no default one.
        """
        if not self._models:
            raise StartupError("there is no model to serve")
        names = self._names()
        if self._default_name and self._default_name not in names:
            raise StartupError(f"default_model {self._default_name!r} is not loaded; loaded: {', '.join(names)}")

    def is_default(self, model: ServedModel) -> bool:
        """Return whether a request that names no model gets this one."""
        name = model.manifest.name
        return name == self._default() and model is self._find(name, 0)

    @contextmanager
    def borrow(
        self, name: str, version: int, source_language: str = "", target_language: str = ""
    ) -> Iterator[ServedModel]:
        """Find a model as :meth:`resolve` does; it does not end before the block has ended.

        Raises:
            InvalidRequest: See :meth:`resolve`.
            NotFound: See :meth:`resolve`.
        """
        model = self.resolve(name, version, source_language, target_language)
        with model.calls.one():
            yield model

    def resolve(self, name: str, version: int, source_language: str = "", target_language: str = "") -> ServedModel:
        """Find the model a request asks for.

        Args:
            name: Empty for the only model of the languages, or the default one where there are several or none.
            version: 0 for the newest.
            source_language: BCP-47 tag; empty for any.
            target_language: BCP-47 tag; empty for any.

        Raises:
            InvalidRequest: The name is missing, and neither the languages nor a default tell it.
            NotFound: There is no such model or version.
        """
        wanted = name or self._of_languages(source_language, target_language)
        if (found := self._find(wanted, version)) is None:
            served = ", ".join(model.label for model in self.models())
            asked = f"{wanted}/{version}" if version else wanted
            raise NotFound(f"there is no model {asked!r}; served: {served}")
        return found

    def served_pairs(self) -> tuple[str, ...]:
        """Return every model with the languages it translates between, in words; put together once for each table."""
        table, pairs = self._pairs
        if table is not (models := self._models):
            pairs = tuple(f"{model.manifest.languages.in_words} by {model.label}" for model in _in_order(models))
            self._pairs = models, pairs
        return pairs

    def _of_languages(self, source: str, target: str) -> str:
        """Return the name of the model for some languages, either of which may be empty."""
        newest = [model for name in self._names() if (model := self._find(name, 0)) is not None]
        fitting = [model.manifest.name for model in newest if model.manifest.languages.has(source, target)]
        default = self._default()
        if default in fitting:
            return default
        if len(fitting) == 1:
            return fitting[0]
        if default and not fitting:  # its own check of the languages says what is served
            return default
        asked = f"{source}-{target}" if source and target else f"from {source}" if source else f"into {target}"
        if not fitting:
            problem = f"names no model, and none translates {asked}; served: {', '.join(self.served_pairs())}"
        elif source or target:
            problem = f"names no model, and several translate {asked}; take one of {', '.join(fitting)}"
        else:
            problem = f"names no model and this server has no default; take one of {', '.join(fitting)}"
        raise InvalidRequest([FieldViolation("model", problem)])

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
