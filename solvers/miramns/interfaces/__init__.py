"""Interfaces of other libraries to the same solver and result."""
