"""What a benchmark leaves behind: a table on standard output, JSON, a plot."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

_PACKAGES = ("numpy", "onnxruntime", "ctranslate2", "torch", "transformers", "sacrebleu")
_INSTRUCTIONS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8")
_COLUMNS = {
    "model": "{model}",
    "precision": "{precision}",
    "sentences": "{sentences}",
    "batch": "{batch}",
    "beam": "{beam}",
    "ms": "{ms:.1f}",
    "rival": "{rival}",
    "rival ms": "{rival_ms:.1f}",
    "ratio": "{ratio:.2f}",
    "quartiles": "{ratio_quartiles[0]:.2f}-{ratio_quartiles[1]:.2f}",
    "tokens/s": "{tokens_per_second:.0f}",
    "equal": "{equal_ratio:.1%}",
}


def machine() -> dict[str, Any]:
    """Where was measured, and how busy that was."""
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
    """Of Python, and of what is installed of the packages that matter."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a result, with the command that made it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    module = Path(sys.argv[0]).stem
    said = {"command": ["python", "-m", f"loadtests.offline.{module}", *sys.argv[1:]], **content}
    path.write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = (columns, ["---"] * len(columns), *rows)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def cases_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A line for each case and precision; times are of a whole batch, from its first token to its last translation."""
    return table(list(_COLUMNS), [[cell.format(**_shown(row)) for cell in _COLUMNS.values()] for row in rows])


def engines_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Start-up time and peak memory of each engine's process."""
    cells = [[r["model"], r["engine"], f"{r['start_seconds']:.2f}", f"{r['peak_bytes'] / 1e6:.0f}"] for r in rows]
    return table(["model", "engine", "start-up s", "peak memory MB"], cells)


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "ms": row["seconds"] * 1e3, "rival_ms": row["rival_seconds"] * 1e3}


def plot_ratios(path: Path, rows: Sequence[Mapping[str, Any]], title: str) -> None:
    """Draws each ratio with its quartiles; a bar to the right of the line is ahead."""
    precisions = list(dict.fromkeys(row["precision"] for row in rows))
    cases = list(dict.fromkeys(_label(row) for row in rows))
    figure = Figure(figsize=(8.0, 1.5 + 0.35 * len(cases)), layout="constrained")
    axes = figure.subplots()
    height = 0.8 / len(precisions)
    for number, precision in enumerate(precisions):
        chosen = [row for row in rows if row["precision"] == precision]
        places = [cases.index(_label(row)) + (number - (len(precisions) - 1) / 2) * height for row in chosen]
        spreads = [[abs(row["ratio"] - row["ratio_quartiles"][side]) for row in chosen] for side in (0, 1)]
        axes.barh(places, [row["ratio"] for row in chosen], height, xerr=spreads, label=precision)
    axes.axvline(1.0, color="black", lw=1)
    axes.set_yticks(range(len(cases)), cases)
    axes.invert_yaxis()
    axes.set(title=title, xlabel="the rival's time / ours")
    axes.grid(axis="x", alpha=0.3)
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _label(row: Mapping[str, Any]) -> str:
    kind = row["rival"].partition("/")[0]
    return f"{row['model']}, {row['sentences']}, batch {row['batch']}, beam {row['beam']}, {kind}"
