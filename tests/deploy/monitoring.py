"""The dashboard, the alerts, and the tools to try them with."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "deploy" / "monitoring"
COMPOSE = ROOT / "deploy" / "compose"

DASHBOARD: dict[str, Any] = json.loads((MONITORING / "dashboard.json").read_text())
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"] for rule in group["rules"]
]
ALERTS = [rule["alert"] for rule in RULES if "alert" in rule]


@dataclass(frozen=True)
class Query:
    """One query of a panel, as Grafana would send it."""

    panel: str
    expression: str
    is_instant: bool


def panels() -> list[dict[str, Any]]:
    """Everything on the dashboard but the headings of its rows."""
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def queries(**variables: str) -> Iterator[Query]:
    """The queries of all panels; ``variables`` are put in where the dashboard has $name."""
    for panel in panels():
        for target in panel["targets"]:
            yield Query(panel["title"], substituted(target["expr"], variables), target.get("instant", False))


def substituted(text: str, variables: dict[str, str]) -> str:
    """Replaces every $name; an unknown one is an error."""
    return re.sub(r"\$(\w+)", lambda match: variables[match[1]], text)


def tool(name: str) -> str:
    """The path of ``prometheus`` or ``promtool``; skips the test where there is none."""
    found = shutil.which(name) or shutil.which(name, path=ROOT / ".cache" / "prometheus" / "usr" / "bin")
    if found is None:
        pytest.skip(f"{name} is not installed: `make monitoring-test` gets it from Debian's packages")
    return found
