"""Multi-reward post-training of language models in JAX (RVPO, arXiv:2605.05750)."""

__version__ = "0.1.0"
