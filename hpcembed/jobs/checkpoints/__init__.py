"""Checkpoints of jobs: what an unfinished run has computed, and how the next one continues."""
