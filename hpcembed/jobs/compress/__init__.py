"""The smallest dimension and network that keep the accuracy."""
