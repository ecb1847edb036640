"""Evaluation on a task: ``rvpo eval --task NAME``.

From rows to numbers: ``tasks`` reads a task's rows, asks and grades; ``responses`` has answers that
are stored, ``writers`` those that a policy writes; ``results`` keeps rows, ``eval.json`` and what
is not to be written again; ``table`` shows them, ``paired`` compares two of them.
"""
