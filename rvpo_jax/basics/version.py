"""The one number of both wheels that are built from this source."""

__version__ = "0.1.0"
