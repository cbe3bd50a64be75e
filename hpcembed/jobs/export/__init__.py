"""Deployable models: one graph from raw features to classes or a target, as ONNX and safetensors.

The import of this package needs numpy and safetensors only; the functions that use ONNX, MPI and
the readers import them.
"""

from hpcembed.jobs.export.inference import DeployedClassifier, DeployedRegressor, load

__all__ = ["DeployedClassifier", "DeployedRegressor", "load"]
