"""Ranks, memory, threads, environment, logging, counter-based random numbers, atomic output."""
