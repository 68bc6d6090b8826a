"""``make demo``: a server translates sample sentences over gRPC and shows some metrics.

Exits 0 only if every sample came back with a translation and the server ended in order.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import urllib.request
from collections import deque
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from serving.client import CallError, Hypothesis, Options, TranslationClient

SAMPLES = (
    "I drink milk.",
    "The cat sat on the mat.",
    "Where is the train station?",
    "My sister has two children.",
    "It is raining today, so we stay at home.",
    "The city council approved the construction of a new bridge over the river.",
    "Researchers say that the vaccine protects against severe disease.",
    "Please restart your computer to finish installing the update.",
)
BEAMS = (1, 4)
TARGETS = 3  # languages at most
METRICS = (
    "dragoman_requests_total",
    "dragoman_source_tokens_total",
    "dragoman_target_tokens_total",
    "dragoman_finish_reasons_total",
    "dragoman_step_seconds_count",
    "dragoman_step_seconds_sum",
    "dragoman_build_info",
)
STOP_SECONDS = 40  # a little more than the server gives accepted requests to finish


def main() -> int:
    """Run the demonstration; return the exit status."""
    parser = argparse.ArgumentParser(description="Starts a server, translates samples, stops it again.")
    parser.add_argument("--models", default="models", help="directory of bundles")
    parser.add_argument("--texts", type=Path, help="file whose first lines are translated (default: English ones)")
    asked = parser.parse_args()
    texts = asked.texts.read_text(encoding="utf-8").splitlines()[: len(SAMPLES)] if asked.texts else SAMPLES
    command = [
        sys.executable,
        "-m",
        "serving",
        "--models",
        asked.models,
        "--listen",
        "127.0.0.1:0",
        "--http",
        "127.0.0.1:0",
    ]
    command += ["--web", ""]
    print(f"$ dragoman-serve {' '.join(command[3:])}", flush=True)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, encoding="utf-8") as server:
        try:
            ready = _wait_until_ready(server)
            if ready is None:
                return 1
            print(f"ready: gRPC on {ready['listen']}, HTTP on {ready['http']}\n")
            complete = _translate(str(ready["listen"]), texts)
            _show_metrics(str(ready["http"]))
        finally:
            server.send_signal(signal.SIGTERM)
            try:
                server.communicate(timeout=STOP_SECONDS)
            except subprocess.TimeoutExpired:
                server.kill()
    print(f"\nserver stopped by SIGTERM with exit status {server.returncode}")
    return 0 if complete and server.returncode == 0 else 1


def _wait_until_ready(server: subprocess.Popen[str]) -> dict[str, object] | None:
    assert server.stderr
    last: deque[str] = deque(maxlen=20)
    for line in server.stderr:
        last.append(line.rstrip())
        try:
            said = json.loads(line)
        except ValueError:  # not a line of its log
            continue
        if isinstance(said, dict) and said.get("event") == "ready":
            return said
    print("the server ended before it was ready; it said:", *last, sep="\n", file=sys.stderr)
    return None


def _translate(address: str, texts: Sequence[str]) -> bool:
    complete = True
    with TranslationClient(address) as client:
        model = client.get_model()
        print(
            f"model {model.name}/{model.version}: {model.family}, {', '.join(model.source_languages)} to "
            f"{', '.join(model.target_languages)}, {model.precision} on {model.device}\n"
        )
        source = next((tag for tag in model.source_languages if tag == "en"), model.source_languages[0])
        targets = [tag for tag in model.target_languages if tag != source] or model.target_languages
        for target, beam in product(targets[:TARGETS], BEAMS):
            print(f"{target}, " + ("greedy" if beam == 1 else f"beam {beam}"))
            try:
                options = Options(beam_size=beam, alignments=True)
                result = client.translate(texts, options, source_language=source, target_language=target)
            except CallError as error:
                print(f"  failed: {error} ({error.code.name})", file=sys.stderr)
                complete = False
                continue
            for text, translation in zip(texts, result.translations, strict=True):
                best = translation.hypotheses[0]
                print(f"  {text}\n    {best.text}\n    score {best.score:.4f}   {_aligned_words(text, best)}")
                complete = complete and bool(best.text.strip())
            print(f"  queued {result.queue_seconds * 1e3:.1f} ms, computed {result.compute_seconds * 1e3:.1f} ms\n")
    return complete


def _aligned_words(source: str, hypothesis: Hypothesis) -> str:
    return "  ".join(
        f"{source[link.source_start : link.source_end]}={hypothesis.text[link.target_start : link.target_end]}"
        for link in hypothesis.alignment
    )


def _show_metrics(address: str) -> None:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # whatever http_proxy says
    with direct.open(f"http://{address}/metrics", timeout=10) as response:
        text = response.read().decode()
    print("some metrics")
    for line in text.splitlines():
        if line.startswith(METRICS):
            print(f"  {line}")


if __name__ == "__main__":
    sys.exit(main())
