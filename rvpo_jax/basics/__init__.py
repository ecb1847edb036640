"""What every room may use: refusals, shown text, files, intervals. Standard library and NumPy."""
