"""The default backbones: wheels of pip packages → tensors → ONNX graphs with their descriptions."""
