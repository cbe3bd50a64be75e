"""Figures of runs and studies: one module for each kind, one style for all."""
