"""Locust in a process of its own: its patches of the standard library stay there."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtests.service.calls import Call, read_calls
from loadtests.service.cores import Cores
from loadtests.service.services import Service

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Run:
    """A finished run."""

    calls: list[Call]  # every call, by due time
    figures: dict[str, Any]  # the summary, with the cores used by the server and by others


def run_locust(locustfile: str, service: Service, out: Path, options: Mapping[str, object]) -> Run:
    """Run a locustfile of this folder against a service.

    Args:
        locustfile: Name of the module, such as ``open_loop``.
        service: The service to call.
        out: Prefix of the files that are written: ``OUT.calls.csv``, ``OUT.summary.json``, ``OUT.locust.html``,
            Locust's own ``OUT_*.csv`` and the log ``OUT.log``.
        options: Options of the locustfile and of Locust, by their long names.

    Raises:
        RuntimeError: Locust could not run, or broke off; failed calls are no error.
    """
    out = out.resolve()
    files = {"calls": f"{out}.calls.csv", "summary": f"{out}.summary.json", "html": f"{out}.locust.html", "csv": out}
    command = [sys.executable, "-m", "locust", "--headless", "--only-summary"]
    command += ["-f", f"loadtests/service/{locustfile}.py", "--host", service.address, "--exit-code-on-error", "0"]
    for name, value in {**files, **options}.items():
        command += [f"--{name}", str(value)]
    log = Path(f"{out}.log")
    cores = Cores(service.process)
    with log.open("wb") as output:
        status = subprocess.run(command, cwd=ROOT, stdout=output, stderr=output, check=False).returncode
    if status:
        tail = "\n".join(log.read_text(encoding="utf-8").splitlines()[-20:])
        raise RuntimeError(f"Locust ended with status {status}; it said:\n{tail}")
    used = cores.used()
    figures = json.loads(Path(f"{out}.summary.json").read_text(encoding="utf-8"))
    return Run(
        read_calls(Path(f"{out}.calls.csv")), figures | {who: {"cores": used[who]} for who in ("server", "others")}
    )
