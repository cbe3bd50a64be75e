"""Training of compact classifiers: model, batches, evaluation, files. Imports torch."""
