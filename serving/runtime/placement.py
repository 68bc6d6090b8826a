"""The choice of device and precision: a function of what a bundle has and of what is there, not a trial."""

from __future__ import annotations

from serving.bundle.manifest import Manifest
from serving.errors import StartupError
from serving.runtime.session import PROVIDERS

_FASTEST = {"cuda": ("fp16", "fp32"), "cpu": ("int8", "fp32")}  # precisions by device, fastest first


def placements(manifest: Manifest, *, precision: str, device: str, cuda: bool) -> list[tuple[str, str]]:
    """Return devices to load a model on, best first and at least one, each with the precision it gets.

    Args:
        manifest: The bundle's.
        precision: One of the manifest's, or ``auto``: the fastest one for the device.
        device: ``cpu``, ``cuda`` or ``auto``: CUDA where it is there and can run the precision, then the CPU.
        cuda: Whether ONNX Runtime was built for CUDA.

    Raises:
        StartupError: Precision or device is unknown, or the device cannot run the precision.
    """
    precisions = manifest.precisions
    if precision not in {"auto", *precisions}:
        raise StartupError(
            f"precision is {precision!r}, bundle {manifest.name}/{manifest.version} has {', '.join(precisions)}: "
            "name one of these"
        )
    if device not in {"auto", *PROVIDERS}:
        raise StartupError(f"device is {device!r}: use one of {', '.join(PROVIDERS)}")
    devices = [device] if device != "auto" else ["cuda", "cpu"] if cuda else ["cpu"]
    found: list[tuple[str, str]] = []
    for place in devices:
        names = [precision] if precision != "auto" else [*_FASTEST[place], *precisions]
        found += [(place, name) for name in names if name in precisions and place in precisions[name].devices][:1]
    if not found:
        asked = [precision] if precision != "auto" else precisions
        lawful = "; ".join(f"precision {name} runs on {', '.join(precisions[name].devices)}" for name in asked)
        raise StartupError(f"bundle {manifest.name}/{manifest.version}: {lawful}, not on {devices[-1]}")
    return found
