"""Specs that only the benchmark uses."""
