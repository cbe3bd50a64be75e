"""Models to take away: one graph from raw features to classes, as ONNX and safetensors.

Importing this takes numpy only; ONNX, MPI and the readers come in where they are used.
"""

from hpcembed.jobs.export.inference import DeployedClassifier, load

__all__ = ["DeployedClassifier", "load"]
