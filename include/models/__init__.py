"""What is predicted: one folder per fleet, one file per model."""
