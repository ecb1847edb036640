"""A run compiled ahead of time for a TPU slice, on a machine that has none.

``chips`` what a slice is; ``meshes`` which ones are worth compiling; ``compiling`` the real step
and sampler, in a process of its own; ``dumps`` what the compiler writes down, ``programs`` and
``traffic`` what such a program moves, ``work`` what it computes; ``planning`` puts them together;
``report`` what people read.
"""
