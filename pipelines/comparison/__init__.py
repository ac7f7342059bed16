"""Models trained on the same data with the same budget, each in its own process."""
