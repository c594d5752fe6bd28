"""Quantization schemes: functions from the float graph to the quantized one.

All return ONNX in a form that every runtime reads: QuantizeLinear and DequantizeLinear around what
is quantized, so that each target can fuse them in its own way.
"""
