"""Covariance and Gram operators of distributed rows.

* ``covariance``: the assembled matrix, and the operator that multiplies without it.
* ``covariance_passes``, ``gram``: products with blocks of vectors, one pass over the rows each.
* ``moments``: means and variances of the features.
* ``covariance_plan``: engines with their memory and predicted seconds.
"""
