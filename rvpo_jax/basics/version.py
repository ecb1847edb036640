"""The one number of both wheels that are built from this source, and which of them this is."""

__version__ = "0.1.0"
PRODUCT = __name__.partition(".")[0].replace("_", "-")
