"""Autoencoder: a network that compresses rows to k coordinates and restores them."""

from hpcembed.networks.training.autoencoder.estimator import Autoencoder

__all__ = ["Autoencoder"]
