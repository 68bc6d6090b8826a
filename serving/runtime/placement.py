"""The choice of device and precision: a function of what a bundle has and of what is there, not a trial."""

from __future__ import annotations

from collections.abc import Mapping

from serving.bundle.manifest import Manifest, Precision
from serving.errors import StartupError
from serving.runtime.session import PROVIDERS

# Precisions by device, fastest first.
_FASTEST = {"cuda": ("fp16", "fp32"), "cpu": ("int8-shortlist", "int8", "fp32-shortlist", "fp32")}
_SHORTLIST = "-shortlist"
_BLEU_LOSS = 0.1  # that a shortlist may cost where nobody asked for one
_AGREEMENT = 0.9  # of what the same precision without it agrees with PyTorch


def placements(manifest: Manifest, *, precision: str, device: str, cuda: bool) -> list[tuple[str, str]]:
    """Return devices to load a model on, best first and at least one, each with the precision it gets.

    Args:
        manifest: The bundle's.
        precision: One of the manifest's, or ``auto``: the fastest one for the device, with a shortlist only if that
            costs next to nothing by its record.
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
        fastest = [name for name in _FASTEST[place] if _faithful(precisions, name)]
        names = [precision] if precision != "auto" else [*fastest, *precisions]
        found += [(place, name) for name in names if name in precisions and place in precisions[name].devices][:1]
    if not found:
        asked = [precision] if precision != "auto" else precisions
        lawful = "; ".join(f"precision {name} runs on {', '.join(precisions[name].devices)}" for name in asked)
        raise StartupError(f"bundle {manifest.name}/{manifest.version}: {lawful}, not on {devices[-1]}")
    return found


def _faithful(precisions: Mapping[str, Precision], name: str) -> bool:
    """Tell whether a precision has no shortlist, or one that loses little BLEU and changes few translations."""
    whole = precisions.get(name.removesuffix(_SHORTLIST))
    if not name.endswith(_SHORTLIST) or name not in precisions or whole is None:
        return not name.endswith(_SHORTLIST)
    with_list, without = precisions[name].verification, whole.verification
    if with_list.export_bleu is None or without.export_bleu is None:
        return False
    agreement = 100.0 if without.agreement_bleu is None else without.agreement_bleu  # that of fp32 is complete
    return (
        with_list.export_bleu >= without.export_bleu - _BLEU_LOSS
        and (with_list.agreement_bleu or 0.0) >= _AGREEMENT * agreement
    )
