"""Inputs from strangers: valid files of every format, mutations of them, and their trial.

``formats`` has the registry; modules named ``*_files`` fill it. ``trial`` reads one input and names
a violation of the promises; ``campaign`` does so for many inputs in processes with limits.
``scripts/fuzz.py`` is the command, ``docs/explanations/input_files.md`` the description.
"""
