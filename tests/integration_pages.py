"""The examples of rvpo_jax/integrations/README.md, for the tests that run them."""

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent / "rvpo_jax" / "integrations" / "README.md"


def example(trainer):
    """The one Python block of a section, as code that says where it stands."""
    section = PAGE.read_text().split(f"\n## {trainer}\n")[1].split("\n## ")[0]
    (block,) = re.findall(r"^```python\n(.*?)^```", section, flags=re.M | re.S)
    return compile(block, f"README.md, {trainer}", "exec")
