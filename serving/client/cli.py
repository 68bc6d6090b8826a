"""``dragoman-translate``: texts from the command line or standard input, translations to standard output, in order."""

from __future__ import annotations

import argparse
import codecs
import os
import re
import sys
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import grpc
from tqdm import tqdm

from serving.client.client import DEFAULT_DEADLINE, TranslationClient
from serving.client.credentials import add_tls_flags, add_token_flags, chosen_credentials, chosen_token
from serving.client.errors import AccessDenied, CallError, InvalidRequest, ModelNotFound, ServerFault, ServerUnavailable
from serving.client.file_run import FileRun
from serving.client.files.formats import FORMATS, is_file
from serving.client.glossary_file import read_glossary, with_terms_of
from serving.client.output import Style, caveats, sentence
from serving.client.pace import Pace
from serving.client.pipeline import in_order
from serving.client.plot import PlotError, draw_alignment
from serving.client.text_input import EncodingError, read_lines
from serving.messages import GlossaryEntry, Result, Translation
from serving.option_flags import add_option_flags, chosen_options, whole_number

PROGRAM = "dragoman-translate"

OK, FAILED, INTERRUPTED = 0, 1, 130  # argparse itself exits with 2

_NOT_STREAMED = ("scores", "alignments", "plot", "json")
_ADDRESS = re.compile(r"(unix:.+|.+:\d{1,5})")
_NOT_UTF_8 = "not valid UTF-8; convert the input to UTF-8, or name its encoding with --encoding"
_RETRY_FOR = 300.0  # seconds


@dataclass(frozen=True)
class Source:
    """One text to translate; None if its bytes are not UTF-8."""

    name: str
    text: str | None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        0: every text was translated, or the reader of the output went away. 1: a request failed. 130: interrupted.
        A wrong command line exits with 2.
    """
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.plot is not None and len(arguments.texts) != 1:
        parser.error("--plot draws one TEXT: give exactly one")
    if arguments.attention and not arguments.json:
        parser.error("--attention writes matrices, which need --json")
    if arguments.stream and any(getattr(arguments, other) for other in _NOT_STREAMED):
        parser.error("--stream writes text alone: leave --scores, --alignments, --plot and --json out")
    if arguments.stream and arguments.n_best > 1:
        parser.error("--stream writes one translation of each text: leave --n-best out")
    try:
        glossary = read_glossary(arguments.glossary) if arguments.glossary else ()
    except (OSError, ValueError) as error:
        parser.error(f"--glossary: {error}")
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="replace")  # type: ignore[union-attr]  # whatever the locale
    try:
        client = TranslationClient(
            arguments.server,
            balance=arguments.balance,
            deadline=arguments.deadline,
            credentials=chosen_credentials(arguments),
            token=chosen_token(arguments, os.environ),
            token_in_clear=arguments.token_in_clear,
        )
    except (OSError, ValueError) as error:
        parser.error(str(error))
    try:
        return _Run(arguments, client, glossary).run()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Python flushes standard output once more when it exits; that must not complain either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except (OSError, EncodingError, PlotError) as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return FAILED


class _Run:
    def __init__(
        self, arguments: argparse.Namespace, client: TranslationClient, glossary: tuple[GlossaryEntry, ...]
    ) -> None:
        self._arguments = arguments
        self._client = client
        self._wanted = {
            "model": arguments.model,
            "version": arguments.model_version,
            "source_language": arguments.source,
            "target_language": arguments.target,
        }
        self._options = replace(
            chosen_options(arguments),
            alignments=arguments.alignments or arguments.plot is not None,
            attention=arguments.attention,
            glossary=glossary,
        )
        self._style = Style(
            n_best=arguments.n_best,
            scores=arguments.scores,
            alignments=arguments.alignments,
            attention=arguments.attention,
            as_json=arguments.json,
        )

    def run(self) -> int:
        texts: list[str] = self._arguments.texts
        if texts and all(map(is_file, texts)):
            return self._translate_files([Path(text) for text in texts])
        sources = _from_arguments(texts) if texts else _from_standard_input(self._arguments.encoding)
        # A bar would run into what somebody types.
        hidden = self._arguments.stream or not sys.stderr.isatty() or (not texts and sys.stdin.isatty())
        status = OK
        with (
            self._client as client,
            # The rows are given because tqdm shows nothing on a terminal that does not tell its size.
            tqdm(
                total=len(texts) or None, unit=" texts", file=sys.stderr, disable=hidden, leave=False, nrows=24
            ) as bar,
            closing(Pace(self._arguments.retry_for, on_slow_down=self._tell_of_waiting)) as pace,
            closing(self._answers(client, pace, sources)) as answers,
        ):
            for source, answer in answers:
                bar.update()
                if isinstance(answer, Translation):
                    glossary = with_terms_of(self._options, source.text or "").glossary
                    _write("" if self._arguments.stream else self._style.answer(source.text or "", answer, glossary))
                    if self._arguments.plot is not None:
                        draw_alignment(source.text or "", answer.hypotheses[0], self._arguments.plot)
                    if not self._style.as_json:  # the object says it
                        for caveat in caveats(answer, glossary):
                            _complain(source, caveat)
                    continue
                status = FAILED
                _complain(source, self._why(answer))
                if isinstance(answer, CallError) and _is_hopeless(answer):
                    return FAILED
                _write(self._style.failure(source.text, answer))
        return status

    def _translate_files(self, paths: Sequence[Path]) -> int:
        arguments = self._arguments
        with (
            self._client as client,
            closing(Pace(arguments.retry_for, on_slow_down=self._tell_of_waiting)) as pace,
        ):
            run = FileRun(
                client=client,
                pace=pace,
                options=self._options,
                model=arguments.model,
                version=arguments.model_version,
                output=arguments.output,
                in_flight=arguments.in_flight,
                complain=lambda name, message: _complain(Source(name, None), message),
                why=self._why,
            )
            return OK if run.run(paths) else FAILED

    def _translate(self, client: TranslationClient, text: str) -> Translation:
        return client.translate([text], with_terms_of(self._options, text), **self._wanted).translations[0]

    def _follow(self, client: TranslationClient, text: str) -> Translation:
        """Write a translation as it comes, but for the end of the line; a refusal comes before the first word."""
        options = with_terms_of(self._options, text)
        with closing(client.translate_stream([text], options, **self._wanted)) as events:
            for event in events:
                if isinstance(event, Result):
                    return event.translations[0]
                print(event.text, end="", flush=True)
        raise ServerFault("the stream ended without an answer", code=grpc.StatusCode.OK)

    def _answers(
        self, client: TranslationClient, pace: Pace, sources: Iterable[Source]
    ) -> Generator[tuple[Source, Translation | CallError | str], None, None]:
        def answer(source: Source) -> Translation | CallError | str:
            if source.text is None:
                return _NOT_UTF_8
            translate = self._follow if self._arguments.stream else self._translate
            try:
                return pace.call(partial(translate, client, source.text))
            except CallError as error:
                return error

        if self._arguments.stream:  # one after the other
            return ((source, answer(source)) for source in sources)
        return in_order(sources, answer, in_flight=self._arguments.in_flight)

    def _why(self, failure: CallError | str) -> str:
        if isinstance(failure, str):
            return failure
        return sentence(
            failure,
            server=self._arguments.server,
            deadline=self._arguments.deadline,
            retry_for=self._arguments.retry_for,
        )

    def _tell_of_waiting(self, error: CallError) -> None:
        told = f"the server asks to wait ({error.message}); going on as fast as it allows"
        tqdm.write(f"{PROGRAM}: {told}", file=sys.stderr)


def _from_arguments(texts: Iterable[str]) -> Iterator[Source]:
    for number, text in enumerate(texts, 1):
        # Bytes that are not UTF-8 arrive as lone surrogates.
        valid = not any("\ud800" <= character <= "\udfff" for character in text)
        yield Source(f"text {number}", text if valid else None)


def _from_standard_input(encoding: str | None) -> Iterator[Source]:
    # A file object of its own: the interpreter must not wait at its exit for a lock that a blocked reader holds.
    with open(sys.stdin.fileno(), "rb", closefd=False) as lines:
        for number, text in enumerate(read_lines(lines, encoding), 1):
            yield Source(f"line {number}", text)


def _is_hopeless(error: CallError) -> bool:
    """Return whether every other text would fail in the same way."""
    if isinstance(error, InvalidRequest):
        return any(not violation.field.startswith("contents") for violation in error.violations)
    if error.code is grpc.StatusCode.UNIMPLEMENTED:
        return True
    return isinstance(error, ServerUnavailable | ModelNotFound | AccessDenied)


def _write(lines: str) -> None:
    tqdm.write(lines, file=sys.stdout)  # keeps clear of the bar if there is one
    sys.stdout.flush()


def _complain(source: Source, message: str) -> None:
    tqdm.write(f"{PROGRAM}: {source.name}: {message}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Translate texts, or the lines of standard input, with a Dragoman server. "
        "With --ray before all else: whole files on a Ray cluster, without a server; see --ray --help.",
        epilog="Exit status: 0 all translated; 1 a request failed, its line is left blank; 2 usage; 130 interrupted.",
    )
    _add_input_flags(parser)
    parser.add_argument(
        "--server",
        type=_address,
        default="127.0.0.1:50051",
        metavar="HOST:PORT",
        help="reached through the proxy that http_proxy names, unless it is loopback or private",
    )
    parser.add_argument(
        "--balance", action="store_true", help="the host's addresses are replicas: take turns over the healthy ones"
    )
    add_tls_flags(parser)
    add_token_flags(parser)
    parser.add_argument("--from", dest="source", default="", metavar="TAG", help="language of the texts, such as en")
    parser.add_argument("--to", dest="target", default="", metavar="TAG", help="language to translate into")
    parser.add_argument(
        "--model", default="", metavar="NAME", help="if not given, the one for the languages, or the server's default"
    )
    parser.add_argument("--model-version", type=whole_number, default=0, metavar="N", help="the newest if not given")
    add_option_flags(parser)
    parser.add_argument(
        "--glossary",
        type=Path,
        metavar="FILE",
        help="terms and their translations, one pair a line with a tab between them, or a comma in a .csv file",
    )
    parser.add_argument(
        "--stream", action="store_true", help="write each translation while it grows, one text after the other"
    )
    _add_output_flags(parser)
    parser.add_argument(
        "--deadline", type=_seconds, default=DEFAULT_DEADLINE, metavar="SECONDS", help="time for each try of a text"
    )
    parser.add_argument(
        "--retry-for",
        type=_seconds,
        default=_RETRY_FOR,
        metavar="SECONDS",
        help="how long a text is tried again while the server says that it is overloaded, limits the rate, loads or "
        f"drains, as often as it allows; the line is left blank after that (default: {_RETRY_FOR:g})",
    )
    parser.add_argument("--in-flight", type=whole_number, default=32, metavar="N", help="texts sent at the same time")
    return parser


def _add_input_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "texts",
        nargs="*",
        metavar="TEXT|FILE",
        help="texts; or files, each translated into NAME.LANGUAGE.SUFFIX, if all are names of files that end in "
        f"{', '.join(FORMATS)}; without any, lines of standard input",
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="directory of translated files; by default their own"
    )
    parser.add_argument(
        "--encoding",
        type=_encoding,
        metavar="NAME",
        help="encoding of standard input, such as utf-16-le or latin-1; by default UTF-8 unless a byte order mark says "
        "otherwise",
    )


def _add_output_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scores", action="store_true", help="write the score and a tab before each translation")
    parser.add_argument(
        "--alignments",
        action="store_true",
        help="write a tab and word alignments after each translation, as SOURCE:TARGET character ranges",
    )
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw the word alignment of one TEXT as a PNG (needs matplotlib)"
    )
    parser.add_argument("--json", action="store_true", help="write one JSON object for each text")
    parser.add_argument(
        "--attention",
        action="store_true",
        help="with --json: the tokens of each part of a text, those of its translation, and a matrix of how much these "
        "attend to those",
    )


def _address(value: str) -> str:
    if not _ADDRESS.fullmatch(value):
        raise argparse.ArgumentTypeError(f"{value!r} is not HOST:PORT, such as 127.0.0.1:50051")
    return value


def _encoding(value: str) -> str:
    try:
        return codecs.lookup(value).name
    except LookupError:
        raise argparse.ArgumentTypeError(f"{value!r} is not an encoding that Python knows, such as utf-16-le") from None


def _seconds(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = float("nan")
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{value!r} is not a number of seconds above 0")
    return seconds
