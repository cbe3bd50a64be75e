"""Labelled data: a file in, this rank's rows out."""
