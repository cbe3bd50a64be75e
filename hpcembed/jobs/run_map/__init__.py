"""Map of a finished run: rows at positions that UMAP finds from their coordinates."""
