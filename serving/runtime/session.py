"""ONNX Runtime sessions on the device that was asked for, or an error."""

from __future__ import annotations

import logging
import platform
from functools import cache
from pathlib import Path

import onnxruntime as ort

from serving.errors import StartupError
from serving.runtime import denormals

_LOG = logging.getLogger(__name__)

VERSION: str = ort.__version__
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_ARENA = {  # -1 is the default; all four have to be named
    "max_mem": 0,  # no limit
    "arena_extend_strategy": -1,
    # One block that is large enough, of which the system gives what is used: in many small ones the holes between
    # activations of different sizes let memory grow for hours.
    "initial_chunk_size_bytes": 1 << 27,
    "max_dead_bytes_per_chunk": 1 << 16,
}
_DISABLED = {
    "SkipLayerNormFusion",  # the fused kernel normalises 3 to 6 times slower than the two it replaces (docs/adr/0005)
}
_DISABLED_ON_CUDA = {
    *_DISABLED,  # here the fused kernel sums half numbers in half
    "MatmulTransposeFusion",  # 1.31.1 fuses a Cast between the two into a node that no kernel is found for
}
_ERRORS = 3  # least severity that ONNX Runtime logs; below that, its ScatterND warns of each new buffer
_NOT_RECORDABLE = "cannot use the graph capture feature"  # of ONNX Runtime's error


def open_session(
    graph: Path | bytes, *, device: str, threads: int, cuda_graphs: bool = False, exact_products: bool = False
) -> ort.InferenceSession:
    """Open a graph.

    Args:
        graph: ONNX file, whose external data lies beside it, or its content.
        device: ``cpu`` or ``cuda``.
        threads: Threads of one operator on the CPU; 0 takes one for each core.
        cuda_graphs: Record runs as CUDA graphs, if every node can be on the GPU: see ``serving.runtime.cuda_graphs``.
        exact_products: Integer products are exact as they are, whatever the processor.

    Raises:
        StartupError: The device is absent, or the graph cannot be loaded.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = _ERRORS
    options.add_session_config_entry("session.load_model_format", "ONNX")  # whatever the first bytes look like
    ort.set_default_logger_severity(_ERRORS)
    # Threads that go on spinning for the next run take the cores from what runs in between: the other session, the
    # search. Bulk translation takes half the time without (docs/adr/0007).
    options.add_session_config_entry("session.force_spinning_stop", "1")
    _share_arena()
    options.add_session_config_entry("session.use_env_allocators", "1")
    if not (exact_products or _exact_int8_products()):
        options.add_session_config_entry("session.x64quantprecision", "1")  # slower, and exact
    if device == "cuda":
        _prepare_cuda()
    disabled = _DISABLED_ON_CUDA if device == "cuda" else _DISABLED
    # TF32, the default, would round the products of fp32 graphs to 10 bits.
    of_cuda = {"use_tf32": "0", "enable_cuda_graph": str(int(cuda_graphs))} if device == "cuda" else {}
    if denormals.SUPPORTED and device == "cpu":  # for the session's own threads; for the thread that runs, see there
        options.add_session_config_entry("session.set_denormal_as_zero", "1")
    try:
        with denormals.denormals_are_zero():  # the first session would leave this thread so
            session = ort.InferenceSession(
                graph, options, providers=[(PROVIDERS[device], of_cuda)], disabled_optimizers=disabled
            )
    except Exception as error:
        if cuda_graphs and _NOT_RECORDABLE in str(error):
            session = open_session(graph, device=device, threads=threads, exact_products=exact_products)
            _LOG.warning("not all of a graph can be on the GPU: no CUDA graphs of it", extra={"cause": str(error)})
            return session
        name = graph if isinstance(graph, Path) else "a graph"
        raise StartupError(f"ONNX Runtime {ort.__version__} cannot load {name}: {error}") from error
    if PROVIDERS[device] not in session.get_providers():
        raise StartupError(
            f"device is {device}, but ONNX Runtime fell back to {session.get_providers()}: check the driver and the "
            "CUDA and cuDNN libraries, or ask for device cpu"
        )
    return session


def has_cuda() -> bool:
    """Tell whether ONNX Runtime was built for CUDA."""
    return PROVIDERS["cuda"] in ort.get_available_providers()


@cache
def _share_arena() -> None:
    """Make all sessions share one arena in main memory."""
    memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    ort.create_and_register_allocator(memory, ort.OrtArenaCfg(_ARENA))


def _exact_int8_products() -> bool:
    """Tell whether products of uint8 and int8 are exact: x86 without VNNI adds pairs in 16 bits, which overflow."""
    if platform.machine() not in {"x86_64", "AMD64"}:
        return True
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return "avx512_vnni" in flags or "avx_vnni" in flags


def _prepare_cuda() -> None:
    if not has_cuda():
        raise StartupError(
            f"device is cuda, but this onnxruntime has only {ort.get_available_providers()}: install dragoman[gpu] in "
            "place of dragoman[cpu], or ask for device cpu"
        )
    ort.preload_dlls()  # CUDA and cuDNN as pip installs them
