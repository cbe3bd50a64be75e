"""Comparison of methods on problems: run, verdict, repeats in turn, records, tables, figures.

The harness is independent of the kind of problem. A benchmark supplies its problems, methods,
reference and measures, and subclasses of :class:`~.comparison.Comparison` and
:class:`~.records.Record`. A wrong answer is marked with the reason and has no time.
"""
