"""Names of files in artifacts that more than one step writes or reads. Imports nothing."""

#: A module's weights.
WEIGHTS = "model.safetensors"
#: Changes to the factory's model.
SURGERY = "surgery.json"
#: An exported graph.
GRAPH = "model.onnx"
#: Weights of a graph that is too large for one file.
WEIGHTS_BESIDE = "model.onnx.data"
#: Real inputs of a model.
SAMPLES_FILE = "samples.safetensors"
#: Beside them, where other axes than the batch vary: which ones, and batches at their own sizes.
AXES_FILE = "axes.json"
BATCHES_FILE = "batches.safetensors"
#: The reference's statistics of each sample.
STATISTICS = "statistics.safetensors"
#: The groups of each sample.
GROUPS = "groups.json"
#: What answers depend on.
ATTRIBUTIONS = "attributions.safetensors"
#: Folders in a candidate's proofs: with real rows, and with random ones.
REAL_PROOF = "inputs"
SYNTHETIC_PROOF = "synthetic"
