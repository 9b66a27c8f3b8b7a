"""A model folder to a proved artifact: the only room that needs torch, transformers and onnx."""

import os

# Before torch or our own calibration imports ONNX Runtime, which writes an identifier and a database into the home
# folder then, and sends what it counts; who wants that sets the variable.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
