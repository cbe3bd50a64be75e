"""Compiled products for passes over dense rows.

``passes.c`` is compiled once for each instruction set when the package is built (``hatch_build.py``
in the root of the repository). :mod:`hpcembed.operators.native.dense_pass` calls the best one that
the processor has. Without the library, callers use numpy.
"""
