"""Ways to quantize a graph, a file each: a function from the float graph to the quantized one.

All give ONNX in forms that every runtime reads: QuantizeLinear and DequantizeLinear around what is
quantized, so that each target fuses them as it does best.
"""
