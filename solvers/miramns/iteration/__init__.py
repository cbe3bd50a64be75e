"""Iterations on a factorisation: expand, project, check, verify, restart."""
