"""Deployable models: one graph from raw features to classes, as ONNX and safetensors.

The import of this package needs numpy only; ONNX, MPI and the readers are imported by the functions
that use them.
"""

from hpcembed.jobs.export.inference import DeployedClassifier, load

__all__ = ["DeployedClassifier", "load"]
