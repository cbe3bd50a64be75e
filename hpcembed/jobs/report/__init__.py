"""Output of jobs for people and programs: run folders, ``run.json``, tables, figures, pages.

Everything here takes plain data and runs on one rank.
"""
