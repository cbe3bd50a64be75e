"""Ranks, memory, threads, environment, logging, random numbers by counter, and atomic output."""
