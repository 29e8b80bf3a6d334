"""Specs of the tests: a small world with known truth."""
