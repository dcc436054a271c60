"""Models come in as torch modules or ONNX files, are plans inside, and go out as ONNX."""
