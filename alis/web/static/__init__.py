"""The live page without a server: the model as ONNX, painted in the browser."""
