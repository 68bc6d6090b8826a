"""A real Prometheus scrapes a real server under load: every query of the dashboard and every rule finds its data."""

import asyncio
import json
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from serving.client import AsyncTranslationClient, CallError, Options
from tests.deploy.monitoring import ALERTS, COMPOSE, DASHBOARD, MONITORING, ROOT, Query, queries, substituted, tool
from tests.deploy.ports import free_ports
from tests.system.served import server

TEXTS = ("I drink milk.", "The cat sat on the mat.", "My sister has two children.")
LOAD_SECONDS = 10
VARIABLES = {"job": "dragoman", "instance": ".*", "model": ".*", "__rate_interval": "4s"}

# What has no data on a machine without a GPU; the code for it has run on none.
NEED_A_GPU = {"GPU memory", "GPU utilization"}
# What stands at 0 as long as all is well.
ZERO_IF_WELL = {"Slow calls", "Dropped in the queue", "Grids given up"}


@dataclass(frozen=True)
class Prometheus:
    """A running one, and the seconds of the epoch between which there was load."""

    address: str
    began: float
    ended: float

    def get(self, path: str, **parameters: str) -> Any:
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=30) as response:
            return json.load(response)["data"]

    def series(self, query: Query) -> dict[str, list[float]]:
        """The numbers that a panel shows of the time of the load, by series; what is not a number is left out."""
        if query.is_instant:
            found = self.get("query", query=query.expression, time=str(self.ended))
            rows = [(row["metric"], [row["value"]]) for row in found["result"]]
        else:
            span = {"start": str(self.began), "end": str(self.ended), "step": "1"}
            found = self.get("query_range", query=query.expression, **span)
            rows = [(row["metric"], row["values"]) for row in found["result"]]
        numbers = {str(labels): [float(value) for _, value in values if value != "NaN"] for labels, values in rows}
        return {labels: values for labels, values in numbers.items() if values}


async def load(address: str) -> None:
    """Calls of several kinds for some seconds, now and then more at once than the server takes."""
    async with AsyncTranslationClient(address, deadline=20) as client:

        async def call(number: int) -> None:
            try:
                await client.translate(TEXTS[: 1 + number % 3] * 4, Options(beam_size=(1, 4)[number % 2]))
            except CallError as refused:
                assert refused.code.name == "RESOURCE_EXHAUSTED", refused

        end = time.monotonic() + LOAD_SECONDS
        while time.monotonic() < end:
            async with asyncio.TaskGroup() as burst:
                for number in range(24):
                    burst.create_task(call(number))


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    program = tool("prometheus")
    folder = tmp_path_factory.mktemp("prometheus")
    shutil.copy(MONITORING / "alerts.yaml", folder)
    (port,) = free_ports(1)
    limits = ("--max-calls", "10", "--max-queue-sentences", "40", "--max-rows", "32")
    with server(ROOT / "models", *limits) as addresses:
        config = yaml.safe_load((COMPOSE / "prometheus.yaml").read_text())
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["scrape_configs"][0]["static_configs"] = [{"targets": [addresses.http]}]
        (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
        process = subprocess.Popen(
            [
                *(program, f"--config.file={folder / 'prometheus.yaml'}", f"--storage.tsdb.path={folder / 'data'}"),
                *(f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"),
            ]
        )
        try:
            began = time.time()
            asyncio.run(load(addresses.grpc))
            time.sleep(3)  # for the last scrape and the rules' turn after it
            yield Prometheus(f"127.0.0.1:{port}", began, time.time())
        finally:
            process.terminate()
            process.wait(30)


def test_every_panel_shows_data(prometheus: Prometheus) -> None:
    found = {query: prometheus.series(query) for query in queries(**VARIABLES)}
    empty = {query.panel for query, series in found.items() if not series}
    has_gpu = bool(prometheus.series(Query("", "dragoman_gpu_memory_total_bytes", is_instant=True)))
    assert empty == (set() if has_gpu else NEED_A_GPU)
    flat = {query.panel for query, series in found.items() if series and not any(map(any, series.values()))}
    assert flat - ZERO_IF_WELL == set()


def test_every_variable_has_values(prometheus: Prometheus) -> None:
    listed = [variable for variable in DASHBOARD["templating"]["list"] if variable["type"] == "query"]
    assert [variable["name"] for variable in listed] == ["job", "instance", "model"]
    for variable in listed:
        query = variable["query"]["query"].removeprefix("label_values(").removesuffix(")")
        selector, label = query.rsplit(", ", 1)
        found = prometheus.get(f"label/{label}/values", **{"match[]": substituted(selector, VARIABLES)})
        assert len(found) == 1, variable["name"]


def test_every_rule_is_evaluated_and_none_fires_on_a_server_that_is_well(prometheus: Prometheus) -> None:
    rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert {rule["health"] for rule in rules} == {"ok"}
    alerts = {rule["name"]: rule["state"] for rule in rules if rule["type"] == "alerting"}
    assert set(alerts) == set(ALERTS)
    assert "firing" not in alerts.values()
    for rule in rules:
        if rule["type"] == "recording":
            assert prometheus.series(Query("", rule["name"], is_instant=True)), rule["name"]


def test_the_autoscaler_reads_numbers(prometheus: Prometheus) -> None:
    (scaled,) = (ROOT / "deploy" / "kubernetes").rglob("scaled-object.yaml")
    for trigger in yaml.safe_load(scaled.read_text())["spec"]["triggers"]:
        query = trigger["metadata"]["query"].replace('namespace="dragoman"', 'job="dragoman"')  # a cluster's label
        found = prometheus.series(Query("", query, is_instant=True))
        assert len(found) == 1, trigger["name"]
        assert all(value > 0 for values in found.values() for value in values), trigger["name"]
