"""``python -m rvpo_jax`` is the command line ``rvpo``."""

import os
import sys

from rvpo_jax.cli import main
from rvpo_jax.run import pulse

code = main()
if code and pulse.is_watched():
    # One of several processes has failed: the usual end would wait for the others.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
sys.exit(code)
