"""Adapters into other trainers; nothing else of the package imports them. See its README.md."""
