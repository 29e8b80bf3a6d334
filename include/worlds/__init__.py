"""What feeds the examples. The product knows nothing of it."""
