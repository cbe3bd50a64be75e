"""Compression of trained networks from the command line: report page and model folder."""
