"""Readers of binary arrays: NPY, NPZ, IDX, CIFAR-10, HDF5."""
