"""Gettext catalogues: messages that have no translation yet get one."""

from __future__ import annotations

from collections.abc import Sequence

from serving.client.files.document import FileError, TextDocument


def read(text: str) -> TextDocument:
    """Read the messages without a translation, obsolete ones left out.

    Raises:
        FileError: It is no catalogue.
    """
    import polib

    try:
        catalogue = polib.pofile(text, wrapwidth=78, encoding="utf-8")
    except (OSError, ValueError) as error:
        raise FileError(f"is not a catalogue of gettext: {error}") from error
    entries = [
        entry for entry in catalogue if not (entry.obsolete or entry.msgstr or any(entry.msgstr_plural.values()))
    ]
    texts = [one for entry in entries for one in (entry.msgid, entry.msgid_plural) if one]

    def rebuild(translations: Sequence[str]) -> str:
        rest = iter(translations)
        for entry in entries:
            singular = next(rest)
            if entry.msgid_plural:
                plural = next(rest)
                entry.msgstr_plural = {form: plural if form else singular for form in entry.msgstr_plural or (0, 1)}
            else:
                entry.msgstr = singular
        return str(catalogue) + "\n" * (text.endswith("\n") and not str(catalogue).endswith("\n"))

    return TextDocument(texts, rebuild)
