"""Compression of trained networks from the command line, and what it writes for people."""
