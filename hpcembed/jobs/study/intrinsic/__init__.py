"""Least dimension of a random subspace in which the networks of a study can be trained."""
