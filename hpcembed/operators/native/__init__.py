"""Compiled products: passes over dense and sparse rows, and squares of dense rows.

``passes.c`` is compiled once for each instruction set when the package is built (``hatch_build.py``
in the root of the repository). The modules of this folder call the best one that the processor has.
Without the library, callers use numpy.
"""
