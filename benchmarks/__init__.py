"""What is timed, against whom; results with the machine that they came from."""
