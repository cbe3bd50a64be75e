"""Covariance and Gram operators of distributed rows."""
