"""The page without a server: a model as ONNX, painted in the browser by the same page."""
