"""A run compiled ahead of time for a TPU slice, on a machine that has none.

``chips`` what a slice is; ``programs`` what a compiled program moves; ``work`` what it computes;
``compiling`` the real step and sampler, in a process of its own; ``planning`` that process, what is
kept of it, and the meshes to try; ``report`` what people read.
"""
