"""Networks: compact classifiers on embedded rows."""
