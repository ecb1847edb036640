"""Small worlds, and the road from their seeds to a claim; for the folders of experiments/."""
