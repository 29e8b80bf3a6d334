"""The fleets of the benchmark."""
