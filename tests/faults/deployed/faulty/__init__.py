"""Estimators that faults are tried on, outside of any fleet."""
