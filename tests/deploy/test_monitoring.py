"""Dashboard and alerts as files: whole, about metrics that exist, and right about the cases that were thought of."""

import re
import subprocess
from itertools import combinations
from typing import Any

import yaml

from tests.deploy.monitoring import ALERTS, COMPOSE, DASHBOARD, MONITORING, ROOT, RULES, panels, tool

SOURCE = "".join(path.read_text() for path in (ROOT / "serving" / "observability").glob("*.py"))
RECORDED = {rule["record"] for rule in RULES if "record" in rule}
UNIT_TESTS = [MONITORING / "alerts_test.yaml", MONITORING / "alerts_long_test.yaml"]
EXPRESSIONS = [target["expr"] for panel in panels() for target in panel["targets"]] + [rule["expr"] for rule in RULES]


def promtool(*arguments: object) -> str:
    done = subprocess.run(
        [tool("promtool"), *map(str, arguments)], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_metric_that_is_asked_for_exists() -> None:
    asked = {
        re.sub(r"_(bucket|sum|count)$", "", name)
        for expression in EXPRESSIONS
        for name in re.findall(r"(?:dragoman|grpc_server)[\w:]*", re.sub(r'"[^"]*"', "", expression.replace(":", "")))
    }
    recorded = {name.replace(":", "").removeprefix("model") for name in RECORDED}
    assert len(asked) > 30
    assert {name for name in asked - recorded if f'"{name}"' not in SOURCE} == set()


def test_panels_have_what_a_reader_needs() -> None:
    everything = DASHBOARD["panels"]
    assert len({panel["id"] for panel in everything}) == len(everything)
    assert len({panel["title"] for panel in everything}) == len(everything)
    for panel in panels():
        assert panel["targets"], panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


def test_no_panel_lies_on_another() -> None:
    def apart(one: dict[str, int], other: dict[str, int]) -> bool:
        return (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )

    positions = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    assert all(position["x"] + position["w"] <= 24 for position in positions)
    assert all(apart(one, other) for one, other in combinations(positions, 2))


def test_only_variables_that_exist_are_used() -> None:
    declared = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    used = {name for expression in EXPRESSIONS for name in re.findall(r"\$(\w+)", expression) if "{{" not in name}
    assert used - {"labels", "value"} == {"job", "instance", "model", "__rate_interval"}
    assert declared == {"datasource", "job", "instance", "model"}


def test_alerts_say_who_is_to_act_and_on_what() -> None:
    assert len(set(ALERTS)) == len(ALERTS)
    for rule in RULES:
        if "alert" in rule:
            assert rule["labels"]["severity"] in {"page", "ticket"}
            assert set(rule["annotations"]) == {"summary", "description"}


def test_every_alert_is_seen_to_fire_and_to_be_silent() -> None:
    cases: list[dict[str, Any]] = [
        case
        for path in UNIT_TESTS
        for test in yaml.safe_load(path.read_text())["tests"]
        for case in test["alert_rule_test"]
    ]
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == set(ALERTS)
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == set(ALERTS)


def test_the_alerts_keep_their_unit_tests() -> None:
    promtool("test", "rules", *UNIT_TESTS)


def test_the_rules_are_well_formed() -> None:
    assert f"{len(RULES)} rules found" in promtool("check", "rules", MONITORING / "alerts.yaml")


def test_the_configuration_of_prometheus_is_well_formed(tmp_path: Any) -> None:
    # In the container the rules lie beside it.
    for file in (COMPOSE / "prometheus.yaml", MONITORING / "alerts.yaml"):
        (tmp_path / file.name).write_text(file.read_text())
    assert f"{len(RULES)} rules found" in promtool("check", "config", tmp_path / "prometheus.yaml")
