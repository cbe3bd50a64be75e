"""Rival projections of a study, on which the same networks are trained as on its embedding."""
