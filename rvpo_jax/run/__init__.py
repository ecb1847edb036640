"""A run and its folder: setup, devices, checkpoints, metrics, logs, evaluation."""
