"""Rules that others published, each with its own conventions, as its authors compute them.

A file for each kind of rule: what it does to the channels, not what it looks at. The formulas are
theirs, the code is ours.
"""
