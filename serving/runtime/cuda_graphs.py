"""Runs that are recorded as CUDA graphs: launching a step's hundreds of kernels costs the host more than running them.

ONNX Runtime records a run under its id (``gpu_graph_id``) the first time, and from then on replays it: the same kernels
at the same addresses with the same shapes. So whoever wants it binds fixed memory and changes only what lies in there.
"""

from __future__ import annotations

import onnxruntime as ort

_MOST_CAPTURED = 256  # graphs of a session; sizes beyond run without one, so that memory stays bounded
_NEVER = -1  # the id of runs that are not recorded


class GraphedSession:
    """A session, and the ids of its recorded runs. Without CUDA graphs it only runs."""

    def __init__(self, session: ort.InferenceSession) -> None:
        self.session = session
        options = session.get_provider_options().get("CUDAExecutionProvider", {})
        self.captures: bool = options.get("enable_cuda_graph", "0") == "1"
        self._held = 0
        self._last = 0

    def run(self, binding: ort.IOBinding, *, fixed: bool = True) -> GraphedRun:
        """Return a run of a binding, recorded when it first runs if its addresses are ``fixed`` and there is room."""
        if not self.captures:
            return GraphedRun(self, binding, None)
        if not fixed or self._held >= _MOST_CAPTURED:
            return GraphedRun(self, binding, _NEVER)
        self._held += 1
        self._last += 1  # an id is never used again: what it stands for lies elsewhere by then
        return GraphedRun(self, binding, self._last)

    def release(self, number: int) -> None:
        """Forget a recorded run."""
        self._held -= 1
        self.session.release_captured_graph(number)


class GraphedRun:
    """One binding, to be run again and again."""

    def __init__(self, owner: GraphedSession, binding: ort.IOBinding, number: int | None) -> None:
        self._owner, self._binding, self._number = owner, binding, number
        self._options: ort.RunOptions | None = None
        if number is not None:
            self._options = ort.RunOptions()
            self._options.add_run_config_entry("gpu_graph_id", str(number))

    def __call__(self) -> None:
        """Run, and wait until it is done. The first run of a recorded one runs more than once."""
        self._owner.session.run_with_iobinding(self._binding, self._options)

    def release(self) -> None:
        """Forget the recorded run; this one must not be called again."""
        if self._number is not None and self._number != _NEVER:
            self._owner.release(self._number)
