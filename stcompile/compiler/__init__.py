"""A model folder to a proved artifact: the only room that needs torch, transformers and onnx."""
