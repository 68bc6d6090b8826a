"""ONNX Runtime sessions on the device that was asked for, or an error."""

from __future__ import annotations

from pathlib import Path

import onnxruntime as ort

from serving.errors import StartupError

VERSION: str = ort.__version__
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


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
    # Without VNNI, products of uint8 and int8 overflow in 16 bits; this takes a slower exact way there, and only there.
    options.add_session_config_entry("session.x64quantprecision", "1")
    if device == "cuda":
        _prepare_cuda()
    try:
        # The fused kernel normalises 3 to 6 times slower than the two it replaces (docs/adr/0005).
        session = ort.InferenceSession(
            path, options, providers=[PROVIDERS[device]], disabled_optimizers={"SkipLayerNormFusion"}
        )
    except Exception as error:
        raise StartupError(f"ONNX Runtime {ort.__version__} cannot load {path}: {error}") from error
    if PROVIDERS[device] not in session.get_providers():
        raise StartupError(
            f"device is {device}, but ONNX Runtime fell back to {session.get_providers()}: check the driver and the "
            "CUDA and cuDNN libraries, or ask for device cpu"
        )
    return session


def _prepare_cuda() -> None:
    if PROVIDERS["cuda"] not in ort.get_available_providers():
        raise StartupError(
            f"device is cuda, but this onnxruntime has only {ort.get_available_providers()}: install dragoman[gpu] in "
            "place of dragoman[cpu], or ask for device cpu"
        )
    ort.preload_dlls()  # CUDA and cuDNN as pip installs them
