"""Logs of rewards from any trainer: the table of contents.

``read_log(source)`` reads the numbers of a file, a folder or a table; texts stay on disk.
"""

from .assemble import read_log
from .log import Note, ReadOptions, RewardLog

__all__ = ["Note", "ReadOptions", "RewardLog", "read_log"]
