"""Sources that only the benchmark uses."""
