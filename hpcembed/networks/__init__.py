"""Networks: compact classifiers on embedded rows, and compression of trained networks."""
