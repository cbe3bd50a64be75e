"""Readers of tables: CSV, SVMlight, Matrix Market, Parquet."""
