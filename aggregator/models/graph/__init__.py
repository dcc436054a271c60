"""A torch module's training step as plain ONNX: traced, written, made small, tested, priced."""
