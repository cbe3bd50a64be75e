"""Krylov factorisations ``A V = V H + residual``: extend, restart, rotate."""
