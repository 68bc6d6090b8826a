"""Output of ``dragoman-translate``: an answer, or a failure in its place."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from serving.client.errors import CallError, DeadlinePassed, InvalidRequest, ServerUnavailable
from serving.messages import AttentionMatrix, FinishReason, GlossaryEntry, Hypothesis, Translation

_COLUMN_BREAKS = re.compile(r"[\t\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")


@dataclass(frozen=True)
class Style:
    """Choice of what is written of an answer.

    Attributes:
        n_best: Lines for each text.
        scores: A column with the score before the text.
        alignments: A column with word alignments after the text.
        attention: In an object, what the model attended to, of the best translation.
        as_json: One JSON object for each text instead.
    """

    n_best: int = 1
    scores: bool = False
    alignments: bool = False
    attention: bool = False
    as_json: bool = False

    def answer(self, source: str, translation: Translation, glossary: Sequence[GlossaryEntry] = ()) -> str:
        """Return the lines of an answer, always ``n_best`` of them, or one JSON object, with the terms that occur."""
        if self.as_json:
            fields: dict[str, object] = {
                "source": source,
                "hypotheses": [self._json_hypothesis(hypothesis) for hypothesis in translation.hypotheses],
                "parts": translation.parts,
                "source_truncated": translation.source_truncated,
                "flags": list(translation.flags),
            }
            terms = [vars(glossary[use.entry]) | {"wanted": use.wanted, "used": use.used} for use in translation.terms]
            return _json(fields | ({"terms": terms} if glossary else {}))
        return self._padded(self._columns(hypothesis) for hypothesis in translation.hypotheses)

    def failure(self, source: str | None, error: CallError | str) -> str:
        """Return the lines in place of an answer: as many blank ones, or a JSON object with the reason."""
        if self.as_json:
            said = (
                {"code": error.code.name, "message": error.message, "request_id": error.request_id}
                if isinstance(error, CallError)
                else {"message": error}
            )
            return _json({"source": source, "error": said})
        return self._padded(())

    def _padded(self, lines: Iterable[str]) -> str:
        # A blank or split text has one hypothesis whatever was asked for; line k must still belong to text k / n_best.
        present = list(lines)[: self.n_best]
        return "\n".join(present + [""] * (self.n_best - len(present)))

    def _columns(self, hypothesis: Hypothesis) -> str:
        columns = [f"{hypothesis.score:.4f}"] if self.scores else []
        # White space of a text that was split is kept, and must not look like the end of a column or of a line.
        columns.append(_COLUMN_BREAKS.sub(" ", hypothesis.text) if self.scores or self.alignments else hypothesis.text)
        if self.alignments:
            columns.append(
                " ".join(
                    f"{link.source_start}-{link.source_end}:{link.target_start}-{link.target_end}"
                    for link in hypothesis.alignment
                )
            )
        return "\t".join(columns)

    def _json_hypothesis(self, hypothesis: Hypothesis) -> dict[str, object]:
        fields: dict[str, object] = {
            "text": hypothesis.text,
            "score": hypothesis.score,
            "mean_log_prob": hypothesis.mean_log_prob,
            "finish_reason": hypothesis.finish_reason.value,
        }
        if self.alignments:
            fields["alignment"] = [
                {"source": [link.source_start, link.source_end], "target": [link.target_start, link.target_end]}
                for link in hypothesis.alignment
            ]
        if self.attention and hypothesis.attention:
            fields["attention"] = [_json_attention(one) for one in hypothesis.attention]
        return fields


def _json_attention(attention: AttentionMatrix) -> dict[str, object]:
    width = len(attention.source)
    return {
        "source": [piece.text for piece in attention.source],
        "target": [piece.text for piece in attention.target],
        "weights": [
            [round(weight, 4) for weight in attention.weights[start : start + width]]
            for start in range(0, len(attention.weights), width)
        ],
    }


def caveats(translation: Translation, glossary: Sequence[GlossaryEntry] = ()) -> list[str]:
    """Return warnings about the best translation that its text does not show."""
    said = []
    if translation.source_truncated:
        said.append("the text was cut to the model's limit before it was translated")
    if translation.hypotheses[0].finish_reason is FinishReason.LENGTH:
        said.append("the translation reached the length limit and is probably not complete; raise --max-length")
    for use in translation.terms:
        if not use.used:
            entry = glossary[use.entry]
            said.append(f"the term {entry.source!r} is not translated as {entry.target!r}")
    return said


def sentence(error: CallError, *, server: str, deadline: float, retry_for: float) -> str:
    """Return one sentence about an error, for a person."""
    if isinstance(error, InvalidRequest) and error.violations:
        # Each call carries one text, so its place in the request tells nothing; the name of an option does.
        return "; ".join(
            v.description if v.field.startswith("contents") else f"{v.field}: {v.description}" for v in error.violations
        )
    if error.retry_delay is not None:
        asked = f"the server asks to wait {error.retry_delay:.3g} s, longer than --retry-for {retry_for:g} allows"
        return f"{asked} ({error.message})"
    if isinstance(error, ServerUnavailable):
        return f"the server at {server} does not answer ({error.message})"
    if isinstance(error, DeadlinePassed):
        return f"no answer within {deadline:g} s; raise --deadline or lower --in-flight ({error.message})"
    return f"{error.message} ({error.code.name}, request {error.request_id})"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
