"""Glossaries that callers leave with the server; in memory, and gone when it ends."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from serving.errors import FieldViolation, InvalidRequest, NotFound

_MOST_GLOSSARIES = 1000  # of one owner


@dataclass(frozen=True)
class Glossary:
    """Terms and their translations between two languages.

    Attributes:
        id: UUID by which it is named.
        name: For people.
        source_language: BCP-47 tag.
        target_language: BCP-47 tag.
        created: When it was made.
        entries: Target term by source term.
    """

    id: str
    name: str
    source_language: str
    target_language: str
    created: datetime
    entries: Mapping[str, str]


class GlossaryStore:
    """Glossaries by owner and id."""

    def __init__(self) -> None:
        """Start empty."""
        self._kept: dict[tuple[str, str], Glossary] = {}

    def add(
        self, owner: str, name: str, source_language: str, target_language: str, entries: Mapping[str, str]
    ) -> Glossary:
        """Keep a new glossary.

        Raises:
            InvalidRequest: The owner has too many.
        """
        if len(self.of(owner)) >= _MOST_GLOSSARIES:
            problem = f"would be one more than {_MOST_GLOSSARIES} glossaries, the limit; delete some first"
            raise InvalidRequest([FieldViolation("name", problem)])
        created = datetime.now(UTC)
        made = Glossary(str(uuid.uuid4()), name, source_language, target_language, created, dict(entries))
        self._kept[owner, made.id] = made
        return made

    def of(self, owner: str) -> list[Glossary]:
        """Return all glossaries of an owner, the oldest first."""
        return [glossary for (other, _), glossary in self._kept.items() if other == owner]

    def get(self, owner: str, glossary_id: str) -> Glossary:
        """Return one glossary.

        Raises:
            NotFound: The owner has no such one.
        """
        if (found := self._kept.get((owner, glossary_id))) is None:
            raise NotFound(f"there is no glossary {glossary_id!r}; those left with a server are gone when it restarts")
        return found

    def remove(self, owner: str, glossary_id: str) -> None:
        """Remove one glossary.

        Raises:
            NotFound: The owner has no such one.
        """
        del self._kept[owner, self.get(owner, glossary_id).id]
