"""What a run's rollout files look like: the contract between who writes them and who reads them.

A run folder has ``rollouts/00000012.parquet``, one file per step and one row per completion. The
metadata of the file's schema says, under ``METADATA_KEY``, the run's channels, method and risk
coefficient as JSON.
"""

FOLDER = "rollouts"
METADATA_KEY = b"rvpo"
RESERVED = ("step", "group", "prompt_id", "prompt", "completion", "advantage")


def column_of(channel: str) -> str:
    """The column of a channel; a channel named like one of our own columns gets a prefix.

    Args:
      channel: its name.

    Returns:
      The column's name.

    >>> column_of("safety"), column_of("step")
    ('safety', 'reward/step')
    """
    return f"reward/{channel}" if channel in RESERVED else channel
