"""ONNX Runtime sessions on the device that was asked for, or an error."""

from __future__ import annotations

import platform
from pathlib import Path

import onnxruntime as ort

from serving.errors import StartupError

VERSION: str = ort.__version__
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_DISABLED = {
    "SkipLayerNormFusion",  # the fused kernel normalises 3 to 6 times slower than the two it replaces (docs/adr/0005)
}
_DISABLED_ON_CUDA = {
    *_DISABLED,  # here the fused kernel sums half numbers in half
    "MatmulTransposeFusion",  # 1.31.1 fuses a Cast between the two into a node that no kernel is found for
}


def open_session(path: Path, *, device: str, threads: int) -> ort.InferenceSession:
    """Opens a graph.

    Args:
        path: ONNX file; its external data lies beside it.
        device: ``cpu`` or ``cuda``.
        threads: Threads of one operator on the CPU; 0 takes one for each core.

    Raises:
        StartupError: The device is unknown or absent, or the graph cannot be loaded.
    """
    if device not in PROVIDERS:
        raise StartupError(f"device is {device!r}: use one of {', '.join(PROVIDERS)}")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    if not _exact_int8_products():
        options.add_session_config_entry("session.x64quantprecision", "1")  # half as fast, and exact
    if device == "cuda":
        _prepare_cuda()
    try:
        session = ort.InferenceSession(
            path,
            options,
            providers=[PROVIDERS[device]],
            disabled_optimizers=_DISABLED_ON_CUDA if device == "cuda" else _DISABLED,
        )
    except Exception as error:
        raise StartupError(f"ONNX Runtime {ort.__version__} cannot load {path}: {error}") from error
    if PROVIDERS[device] not in session.get_providers():
        raise StartupError(
            f"device is {device}, but ONNX Runtime fell back to {session.get_providers()}: check the driver and the "
            "CUDA and cuDNN libraries, or ask for device cpu"
        )
    return session


def _exact_int8_products() -> bool:
    """Whether products of uint8 and int8 are exact: x86 without VNNI adds pairs of them in 16 bits, which overflow."""
    if platform.machine() not in {"x86_64", "AMD64"}:
        return True
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return "avx512_vnni" in flags or "avx_vnni" in flags


def _prepare_cuda() -> None:
    if PROVIDERS["cuda"] not in ort.get_available_providers():
        raise StartupError(
            f"device is cuda, but this onnxruntime has only {ort.get_available_providers()}: install dragoman[gpu] in "
            "place of dragoman[cpu], or ask for device cpu"
        )
    ort.preload_dlls()  # CUDA and cuDNN as pip installs them
