"""Translations that are told while they grow: a listener of the engine on one side, text in order on the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from serving.bundle.tokenizer import SubwordTokenizer
from serving.engine.postprocessing import finished_part, part_in_markup
from serving.engine.preprocessing import Prepared, PreparedText
from serving.engine.retry import may_try_again
from serving.engine.settled_text import settled_text
from serving.engine.submission import Decoded
from serving.errors import EngineFailure
from serving.messages import Result, TextDelta
from serving.text.quality import loops, settled_before_loop


@dataclass
class _Stream:
    """One text on its way out.

    Attributes:
        text: What is translated.
        first: Number of its first part's sentence.
        part: The part that grows.
        told: Characters of that part's translation that were told.
        position: End of what was told of the text around the parts.
        sent: All that was told.
    """

    text: PreparedText
    first: int
    part: int = 0
    told: int = 0
    position: int = 0
    sent: list[str] = field(default_factory=list)


class TranslationStream:
    """The texts of one request: the engine's threads report to it, one caller reads."""

    def __init__(
        self, prepared: Prepared, tokenizer: SubwordTokenizer, *, retries: bool, on_change: Callable[[], None]
    ) -> None:
        """Start without a word.

        Args:
            prepared: What is translated.
            tokenizer: Of the bundle.
            retries: A translation that repeats itself will be tried again from where that began.
            on_change: Called from any thread when there may be more to read.
        """
        self._tokenizer, self._language, self._on_change = tokenizer, prepared.languages.target, on_change
        self._tried_again = [retries and may_try_again(sentence) for sentence in prepared.sentences]
        self._streams: list[_Stream] = []
        self._texts: list[int] = []  # of each sentence
        for index, text in enumerate(prepared.texts):
            self._streams.append(_Stream(text, len(self._texts)))
            self._texts += [index] * len(text.parts)
        self._tokens: list[list[tuple[int, int]]] = [[] for _ in self._texts]
        self._decoded: dict[int, Decoded] = {}
        self._changed: deque[int] = deque()  # texts

    def grew(self, index: int, tokens: Sequence[tuple[int, int]]) -> None:
        """Take more tokens of a sentence."""
        self._tokens[index].extend(tokens)
        self._change(index)

    def ended(self, index: int, decoded: Decoded) -> None:
        """Take a decoded sentence; the rest of one that is tried again comes with the result."""
        if self._tried_again[index] and loops(decoded.hypotheses[0].tokens):
            return
        self._decoded[index] = decoded
        self._change(index)

    def _change(self, sentence: int) -> None:
        self._changed.append(self._texts[sentence])
        self._on_change()

    def deltas(self) -> Iterator[TextDelta]:
        """Yield what has become certain since the last call, at most one delta for each text."""
        changed = [self._changed.popleft() for _ in range(len(self._changed))]
        for index in sorted(set(changed)):
            yield from self._delta(index, "".join(self._more(self._streams[index])))

    def rest(self, result: Result) -> Iterator[TextDelta]:
        """Yield what remains to be told of the finished translations.

        Raises:
            EngineFailure: A translation does not begin with what was told of it.
        """
        for index, (stream, translation) in enumerate(zip(self._streams, result.translations, strict=True)):
            sent = "".join(stream.sent)
            if not translation.text.startswith(sent):
                raise EngineFailure(f"translation {index} does not begin with what was streamed of it")
            yield from self._delta(index, translation.text[len(sent) :])

    def _delta(self, index: int, text: str) -> Iterator[TextDelta]:
        if text:
            self._streams[index].sent.append(text)
            yield TextDelta(index, text)

    def _more(self, stream: _Stream) -> Iterator[str]:
        """Yield what follows of a text, part by part, with what is between the parts."""
        text = stream.text
        while stream.part < len(text.parts):
            part, source = text.parts[stream.part], text.sources[stream.part]
            sentence = stream.first + stream.part
            decoded = self._decoded.get(sentence)
            if text.markup:
                # Where a tag goes is not known before the end of its part.
                if not decoded:
                    return
                best = decoded.hypotheses[0]
                finished = finished_part(part, source, best, self._tokenizer, self._language)
                (start, end), translation = part_in_markup(text, text.markup, stream.part, best, finished)
                yield text.markup.raw[stream.position : start] + translation
                stream.part, stream.position = stream.part + 1, end
                continue
            if decoded:
                best = decoded.hypotheses[0]
                translation = finished_part(part, source, best, self._tokenizer, self._language).text
            else:
                tokens = list(self._tokens[sentence])
                if self._tried_again[sentence]:
                    tokens = tokens[: settled_before_loop([token for token, _ in tokens])]
                translation = settled_text(part, source, tokens, self._tokenizer, self._language)
            if decoded or translation:
                yield text.reading.given[stream.position : part.start]
                stream.position = part.start
            yield translation[stream.told :]
            stream.told = len(translation)
            if not decoded:
                return
            stream.part, stream.told, stream.position = stream.part + 1, 0, part.end
