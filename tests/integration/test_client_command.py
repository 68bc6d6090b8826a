"""`dragoman-translate` as a user meets it: a process with arguments, standard streams and an exit status."""

import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2

from serving.pb import translation_service_pb2 as pb
from tests.integration.scripted_server import ScriptedService, fail, running, upper

ROOT = Path(__file__).parents[2]


@pytest.fixture
def service() -> Iterator[ScriptedService]:
    with running(ScriptedService()) as service:
        yield service


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "serving.client", *arguments]


def translate(service: ScriptedService, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        command("--server", service.address, *arguments),
        input=stdin,
        capture_output=True,
        cwd=ROOT,
        timeout=60,
        check=False,
    )


def refuse(field: str, description: str) -> error_details_pb2.BadRequest:
    return error_details_pb2.BadRequest(
        field_violations=[error_details_pb2.BadRequest.FieldViolation(field=field, description=description)]
    )


def test_texts_from_the_command_line(service: ScriptedService) -> None:
    done = translate(service, "--model", "m", "--beam", "4", "hello there", "été")
    assert (done.returncode, done.stdout.decode(), done.stderr) == (0, "HELLO THERE\nÉTÉ\n", b"")
    assert {(request.model, request.options.beam_size) for request in service.requests} == {("m", 4)}


def test_files_are_translated_beside_themselves(service: ScriptedService, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"key": ["value", 1.0]}\r\n')
    (tmp_path / "b.md").write_text("# A title\n")
    done = translate(service, "--output", str(tmp_path), str(tmp_path / "a.json"), str(tmp_path / "b.md"))
    written = [tmp_path / "a.fr.json", tmp_path / "b.fr.md"]
    assert (done.returncode, done.stdout.decode().split(), done.stderr) == (0, [*map(str, written)], b"")
    assert written[0].read_bytes() == b'\xef\xbb\xbf{"key": ["VALUE", 1.0]}\r\n'
    assert {request.mime_type for request in service.requests} == {"text/plain", "text/html"}


def test_a_glossary_goes_with_texts_and_files(service: ScriptedService, tmp_path: Path) -> None:
    def answer(request: pb.TranslateRequest, context: grpc.ServicerContext) -> pb.TranslateResponse:
        response = upper(request, context)
        response.translations[0].terms.extend([pb.TermUse(entry=0, wanted=1)] if request.glossary else [])
        return response

    service.answer = answer
    (tmp_path / "terms.tsv").write_text("cat\tchat\ndog\tchien\n")
    (tmp_path / "a.json").write_text('["The dog."]')
    glossary = ("--glossary", str(tmp_path / "terms.tsv"))
    done = translate(service, *glossary, "--json", "The cat.", "Nothing.")
    terms = [json.loads(line).get("terms", []) for line in done.stdout.splitlines()]
    assert (done.returncode, terms) == (0, [[{"source": "cat", "target": "chat", "wanted": 1, "used": 0}], []])
    done = translate(service, *glossary, "The cat.")
    assert b"the term 'cat' is not translated as 'chat'" in done.stderr
    assert translate(service, *glossary, str(tmp_path / "a.json")).returncode == 0
    # Calls of one command are made at the same time, and arrive in any order.
    sent = [(request.contents[0], [entry.target for entry in request.glossary]) for request in service.requests]
    assert sorted(sent) == [
        ("Nothing.", []), ("The cat.", ["chat"]), ("The cat.", ["chat"]), ("The dog.", ["chien"]),
    ]  # fmt: skip


def test_what_a_file_keeps_as_it_is_is_said(service: ScriptedService, tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("| A | B |\n|---|---|\n| one | two \\| three |\n")
    done = translate(service, str(tmp_path / "a.md"))
    assert done.returncode == 0
    assert b"1 texts are left as they are" in done.stderr
    assert b"'two | three'" in done.stderr


def test_a_file_that_fails_is_not_written(service: ScriptedService, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n")
    (tmp_path / "b.json").write_text("{")
    service.answer = lambda _, context: fail(context, grpc.StatusCode.INTERNAL, "broken")
    done = translate(service, str(tmp_path / "a.txt"), str(tmp_path / "b.json"))
    assert done.returncode == 1
    assert b"1 texts failed, the first because broken" in done.stderr
    assert b"is not JSON" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.fr.txt.part", "a.txt", "b.json"]


def test_lines_in_order_many_in_flight_blank_ones_kept(service: ScriptedService) -> None:
    together = threading.Barrier(16)
    some = threading.Semaphore(16)  # the first sixteen are answered only when all of them are there

    def answer(request: pb.TranslateRequest, context: grpc.ServicerContext) -> pb.TranslateResponse:
        if some.acquire(blocking=False):
            together.wait(10)
        return upper(request, context)

    service.answer = answer
    lines = ["" if number % 7 == 3 else f"line {number}" for number in range(200)]
    done = translate(service, "--in-flight", "16", stdin="\n".join(lines).encode() + b"\r\n")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode() == "".join(line.upper() + "\n" for line in lines)
    assert service.most_at_once == 16


def test_endless_input_is_answered_as_it_comes(service: ScriptedService) -> None:
    with subprocess.Popen(
        command("--server", service.address), stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    ) as process:
        assert process.stdin
        assert process.stdout
        for number in range(3):
            process.stdin.write(f"line {number}\n".encode())
            process.stdin.flush()
            assert process.stdout.readline() == f"LINE {number}\n".encode()  # while the input is still open
        process.stdin.close()
        assert process.wait(30) == 0


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
def test_a_byte_order_mark_names_the_encoding(service: ScriptedService, encoding: str) -> None:
    done = translate(service, stdin="ein Öl\r\n\n漢字".encode(encoding))
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode() == "EIN ÖL\n\n漢字\n"


def test_text_with_nul_is_refused_whole_and_an_encoding_can_be_named(service: ScriptedService) -> None:
    text = "ein Öl\nzwei\n".encode("utf-16-le")
    done = translate(service, stdin=text)
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"line 1 contains NUL" in done.stderr
    assert b"--encoding utf-16-le" in done.stderr
    assert service.requests == []
    assert translate(service, "--encoding", "utf-16-le", stdin=text).stdout.decode() == "EIN ÖL\nZWEI\n"
    assert translate(service, "--encoding", "latin-1", stdin=b"\xd6l\n").stdout.decode() == "ÖL\n"
    assert translate(service, "--encoding", "klingon", stdin=b"").returncode == 2


def test_white_space_in_a_text_is_no_column(service: ScriptedService) -> None:
    assert translate(service, "--scores", "a\tb\nc").stdout == b"-0.5000\tA B C\n"
    assert translate(service, "a\tb").stdout == b"A\tB\n"


def test_scores_alignments_and_n_best(service: ScriptedService) -> None:
    done = translate(service, "--beam", "2", "--n-best", "2", "--scores", "--alignments", stdin=b"one\n\ntwo\n")
    assert done.stdout.decode().split("\n") == [
        "-0.5000\tONE\t0-1:0-2",
        "-1.5000\tONE'\t0-1:0-2",
        "-0.5000\t\t0-1:0-2",
        "",
        "-0.5000\tTWO\t0-1:0-2",
        "-1.5000\tTWO'\t0-1:0-2",
        "",
    ]


def test_plot_draws_one_text(service: ScriptedService, tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    done = translate(service, "--plot", str(picture), "one")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"ONE\n", b"")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert service.requests[0].include_alignments
    assert translate(service, "--plot", str(picture), "one", "two").returncode == 2
    done = translate(service, "--plot", str(tmp_path / "none" / "a.png"), "one")
    assert done.returncode == 1
    assert b"cannot be written" in done.stderr


def test_json(service: ScriptedService) -> None:
    done = translate(service, "--json", stdin=b"one\ntwo\n")
    assert [json.loads(line)["hypotheses"][0]["text"] for line in done.stdout.splitlines()] == ["ONE", "TWO"]


def test_attention_is_asked_for_and_needs_json(service: ScriptedService) -> None:
    assert translate(service, "--json", "--attention", "one").returncode == 0
    assert service.requests[0].include_attention
    done = translate(service, "--attention", "one")
    assert done.returncode == 2
    assert b"--attention writes matrices, which need --json" in done.stderr


def test_options_reach_the_server(service: ScriptedService) -> None:
    translate(service, "--length-penalty", "0.5", "--max-length", "7", "--long-input", "truncate", "one")
    (request,) = service.requests
    assert (request.options.length_penalty, request.options.max_length) == (0.5, 7)
    assert request.long_input_policy == pb.LONG_INPUT_POLICY_TRUNCATE


def test_a_failed_line_stays_blank_and_the_others_are_translated(service: ScriptedService) -> None:
    def answer(request: pb.TranslateRequest, context: grpc.ServicerContext) -> pb.TranslateResponse:
        if request.contents[0] == "bad":
            return fail(context, grpc.StatusCode.INVALID_ARGUMENT, "x", refuse("contents[0]", "300 tokens; split it"))
        return upper(request, context)

    service.answer = answer
    done = translate(service, stdin=b"one\nbad\ntwo\n")
    assert (done.returncode, done.stdout) == (1, b"ONE\n\nTWO\n")
    assert done.stderr == b"dragoman-translate: line 2: 300 tokens; split it\n"


def test_what_every_line_would_fail_on_is_said_once(service: ScriptedService) -> None:
    service.answer = lambda request, context: fail(
        context, grpc.StatusCode.INVALID_ARGUMENT, "x", refuse("options.beam_size", "99 is above 8")
    )
    done = translate(service, "--beam", "99", stdin=b"one\n" * 100)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr == b"dragoman-translate: line 1: options.beam_size: 99 is above 8\n"


def test_no_server() -> None:
    absent = ScriptedService()
    with running(absent):
        pass
    done = translate(absent, "--deadline", "20", "one", "two")
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(f"dragoman-translate: text 1: the server at {absent.address} ".encode())
    assert done.stderr.count(b"\n") == 1


def test_bytes_that_are_not_utf8(service: ScriptedService) -> None:
    done = translate(service, stdin=b"one\n\xff\xfe\nthree\n")
    assert (done.returncode, done.stdout) == (1, b"ONE\n\nTHREE\n")
    assert done.stderr.startswith(b"dragoman-translate: line 2: not valid UTF-8; convert the input to UTF-8, or")


def test_a_truncated_text_and_an_unfinished_translation_are_said(service: ScriptedService) -> None:
    def answer(request: pb.TranslateRequest, context: grpc.ServicerContext) -> pb.TranslateResponse:
        response = upper(request, context)
        response.translations[0].source_truncated = True
        response.translations[0].hypotheses[0].finish_reason = pb.FINISH_REASON_LENGTH
        return response

    service.answer = answer
    done = translate(service, "one")
    assert (done.returncode, done.stdout) == (0, b"ONE\n")
    assert [b"cut to the model's limit" in line for line in done.stderr.splitlines()] == [True, False]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--beam", "0"],
        ["--beam", "many"],
        ["--beam", "99999999999"],
        ["--n-best", "-1"],
        ["--server", "nowhere"],
        ["--deadline", "nan"],
        ["--deadline", "0"],
        ["--long-input", "guess"],
        ["--glossary", "nowhere.tsv"],
        ["--unknown"],
    ],
)
def test_usage(service: ScriptedService, arguments: list[str]) -> None:
    done = translate(service, *arguments, "one")
    assert (done.returncode, done.stdout) == (2, b"")
    assert arguments[0].encode() in done.stderr
    assert service.requests == []


def test_the_reader_of_the_output_may_go_away(service: ScriptedService) -> None:
    with subprocess.Popen(
        ["bash", "-c", 'yes text | "$@" | head -n 2', "-", *command("--server", service.address)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
    ) as process:
        out, err = process.communicate(timeout=60)
    assert (out, err) == (b"TEXT\nTEXT\n", b"")


@pytest.mark.usefixtures("interruptible")
def test_interrupt_stops_at_once_even_while_input_and_answers_are_awaited(service: ScriptedService) -> None:
    begun, release = threading.Event(), threading.Event()

    def answer(request: pb.TranslateRequest, context: grpc.ServicerContext) -> pb.TranslateResponse:
        begun.set()
        release.wait()
        return upper(request, context)

    service.answer = answer
    with subprocess.Popen(
        command("--server", service.address),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
    ) as process:
        assert process.stdin
        process.stdin.write(b"one\n")
        process.stdin.flush()
        assert begun.wait(30)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert process.stderr
        assert process.stderr.read() == b""
    release.set()


@pytest.mark.parametrize("terminal", [True, False])
def test_a_progress_bar_only_on_a_terminal(service: ScriptedService, terminal: bool) -> None:
    reader, writer = pty.openpty() if terminal else os.pipe()
    done = subprocess.run(
        command("--server", service.address),
        input=b"one\ntwo\n",
        stdout=subprocess.PIPE,
        stderr=writer,
        cwd=ROOT,
        timeout=60,
        check=False,
    )
    if not terminal:
        os.close(writer)
    shown = os.read(reader, 65536)
    if terminal:
        os.close(writer)
    os.close(reader)
    assert (done.returncode, done.stdout) == (0, b"ONE\nTWO\n")
    assert (b"texts" in shown) == terminal


def test_streams_are_written_as_they_come(service: ScriptedService) -> None:
    done = translate(service, "--stream", "hello there", "", "and on\nand on")
    assert (done.returncode, done.stdout.decode(), done.stderr) == (0, "HELLO THERE\n\nAND ON\nAND ON\n", b"")
    done = translate(service, "--stream", stdin=b"one\n\xff\ntwo\n")
    assert (done.returncode, done.stdout) == (1, b"ONE\n\nTWO\n")
    assert b"line 2: not valid UTF-8" in done.stderr


@pytest.mark.parametrize("other", [["--json"], ["--scores"], ["--alignments"], ["--plot", "x.png"], ["--n-best", "2"]])
def test_what_a_stream_cannot_write_is_refused(service: ScriptedService, other: list[str]) -> None:
    done = translate(service, "--stream", *other, "hello")
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"--stream writes" in done.stderr
    assert not service.requests
