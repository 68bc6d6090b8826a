"""`make load`, `make load-peer` and `make load-overhead` in small, on the shipped model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loadtests.peer import compare
from loadtests.service import load, overhead
from loadtests.service.calls import read_calls

ROOT = Path(__file__).parents[2]
PNG = b"\x89PNG\r\n"


def test_load_on_a_fresh_server_finds_a_knee_and_fails_on_a_broken_threshold(tmp_path: Path) -> None:
    sentences, thresholds = tmp_path / "sentences.txt", tmp_path / "thresholds.yaml"
    sentences.write_text("Good morning.\nThank you.\nI am hungry.\n")
    thresholds.write_text("run.failed_share: {at_most: 0}\nknee.answered: {at_least: 1000000}\n")
    out = tmp_path / "out"
    options = {
        "--models": ROOT / "models",
        "--out": out,
        "--sentences": sentences,
        "--thresholds": thresholds,
        "--step-seconds": 0.5,
        "--capacity-seconds": 4,
    }
    status = load.main([str(part) for option in options.items() for part in option])
    summary = json.loads((out / "summary.json").read_text())
    assert status == 1
    (broken,) = summary["broken_thresholds"]
    assert broken.startswith("knee.answered is ")
    page = (out / "report.html").read_text()
    assert broken in page
    assert page.count("data:image/png") == 1
    assert (out / "curve.png").read_bytes().startswith(PNG)
    points = summary["points"]
    assert len((out / "points.csv").read_text().splitlines()) == len(points) + 1
    assert summary["knee"] in points
    assert points[-1]["offered"] > points[0]["offered"]
    calls = read_calls(out / "load.calls.csv")
    assert len(calls) == summary["run"]["calls"]
    assert {call.status for call in calls} <= {"OK", "ABANDONED"}
    assert all(0 < call.compute < call.latency for call in calls if call.status == "OK")
    assert summary["run"]["server"]["cores"] > 0


def test_load_refuses_thresholds_it_cannot_read_before_it_loads_anything(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="2"):
        load.main(["--out", str(tmp_path / "out"), "--thresholds", str(tmp_path / "absent.yaml")])
    assert not (tmp_path / "out").exists()


def test_services_take_turns_and_are_compared_at_equal_latency(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "_SHARES", (0.3, 0.6))
    thresholds = tmp_path / "thresholds.yaml"
    thresholds.write_text("ratio.p99_2000_ms: {at_least: 1000000}\n")
    options = ["--models", ROOT / "models", "--out", tmp_path, "--thresholds", thresholds]
    options += ["--step-seconds", 2, "--capacity-seconds", 4, "--server-option=--precision=fp32"]
    assert compare.main(list(map(str, options))) == 1
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert [broken.split()[0] for broken in summary["broken_thresholds"]] == ["ratio.p99_2000_ms"]
    for name in ("dragoman", "ctranslate2"):
        service = summary[name]
        assert len(service["points"]) == 2
        assert set(service["run"]["outcomes"]) == {"OK"}
        assert service["run"]["calls"] >= sum(point["calls"] for point in service["points"]) > 0
        assert service["points"][0]["offered"] < service["points"][1]["offered"]
    assert (tmp_path / "curves.png").read_bytes().startswith(PNG)


def test_overhead_is_measured_on_servers_with_and_without_tls_and_traces(tmp_path: Path) -> None:
    thresholds = tmp_path / "thresholds.yaml"
    thresholds.write_text("idle_ms.p50: {at_most: 1e-6}\nrun.failed_share: {at_most: 0}\n")
    options = ["--models", ROOT / "models", "--out", tmp_path, "--thresholds", thresholds, "--idle-calls", 5]
    options += ["--capacity-seconds", 4, "--lag-seconds", 1, "--rounds", 1, "--round-calls", 20]
    assert overhead.main(list(map(str, options))) == 1
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert [broken.split()[0] for broken in summary["broken_thresholds"]] == ["idle_ms.p50"]
    assert summary["lag_observations"] > 0
    assert summary["lag_ms"]["p50"] <= summary["lag_ms"]["p99"]
    assert {name: len(turns) for name, turns in summary["turns"].items()} == {
        "plain": 1, "TLS and tokens": 1, "1 % traced": 1,
    }  # fmt: skip
    assert {"throughput", "processor"} <= summary["secured"].keys() & summary["traced"].keys()
    assert (tmp_path / "overhead.png").read_bytes().startswith(PNG)
