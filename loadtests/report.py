"""Results of load tests and benchmarks as JSON, CSV, Markdown tables and an HTML page.

Needs nothing beyond the standard library, but for the page, so that it works on machines that reach no registry.
"""

from __future__ import annotations

import base64
import csv
import json
import math
import os
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = (
    "onnxruntime", "onnxruntime-gpu", "ctranslate2", "numpy", "torch", "transformers", "accelerate",
    "pytorch-lightning", "sacrebleu", "grpcio", "locust",
)  # fmt: skip
_INSTRUCTIONS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8")


def machine() -> dict[str, Any]:
    """Return the processor, its relevant instructions, the number of cores and the load average."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return {
        "processor": fields.get("model name", platform.machine()),
        "instructions": [name for name in _INSTRUCTIONS if name in fields.get("flags", "").split()],
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "load": round(os.getloadavg()[0], 2),
    }


def versions() -> dict[str, str]:
    """Return the versions of Python and of the relevant packages that are installed."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def command() -> str:
    """Return the command line of this process."""
    return shlex.join(["python", *sys.orig_argv[1:]])


def write_json(path: Path, figures: Mapping[str, Any]) -> None:
    """Write figures with the command, the machine and the versions; infinite and undefined ones become null."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"command": command(), "machine": machine(), "versions": versions(), **finite(figures)}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a CSV file; the keys of the first row are the header."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str] | None = None) -> str:
    """Format a Markdown table.

    Args:
        rows: Values by name.
        columns: Titles and the format of their cells, such as ``{"ms": "{seconds:.1f}"}``; every value by default.
    """
    if columns is None:
        columns = {name: f"{{{name}}}" for row in rows for name in row}
        rows = [{name: _short(row.get(name)) for name in columns} for row in rows]
    lines = [list(columns), ["---"] * len(columns)]
    lines += [[cell.format(**row) for cell in columns.values()] for row in rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def write_page(path: Path, *, title: str, figures: Mapping[str, Any], pictures: Sequence[Path]) -> None:
    """Write a self-contained HTML page; ``broken_thresholds`` among the figures is its verdict."""
    import jinja2  # of the extra ``load``; benchmarks that only print tables run without it

    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    encoded = [base64.b64encode(picture.read_bytes()).decode("ascii") for picture in pictures]
    figures = {**figures, "machine": machine(), "versions": versions()}
    page = templates.get_template("report.html").render(
        title=title, command=command(), figures=finite(figures), pictures=encoded
    )
    path.write_text(page, encoding="utf-8")


def finite(value: Any) -> Any:
    """Return nested figures rounded, with None for infinite and undefined ones."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


def _short(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
