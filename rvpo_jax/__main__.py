"""``python -m rvpo_jax`` is the command line ``rvpo``."""

import sys

from rvpo_jax.cli import main

sys.exit(main())
