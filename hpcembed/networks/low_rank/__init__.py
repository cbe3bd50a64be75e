"""Low-rank factors of a layer and the choice of ranks, whatever library holds the network.

Nothing here imports torch or onnx: :mod:`hpcembed.networks.compression` applies it to modules of
torch, and :mod:`hpcembed.networks.onnx_compression` to graphs of ONNX.
"""
