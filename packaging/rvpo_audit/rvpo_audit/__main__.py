"""``python -m rvpo_audit`` is the command ``rvpo-audit``."""

import sys

from .auditing.command import main

sys.exit(main())
