"""Training of compact classifiers: recipes, batches, epochs, evaluation, files."""
