"""Models on ONNX Runtime: sessions, grids, and one decoder step for all slots at once."""

import os

# ONNX Runtime's wheel reports to its maker and writes a device id under the user's home unless this is set before it is
# imported; a server that translates other people's text must do neither. Whoever wants it sets the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
