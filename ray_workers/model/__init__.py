"""Models: the torch module as an artifact, the ONNX graph, and models that come in from files."""
