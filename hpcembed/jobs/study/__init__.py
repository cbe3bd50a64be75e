"""Studies: accuracy by dimension, network and seed."""
