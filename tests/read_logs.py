"""What the tests of the audit's readers write, and how they look at what was read."""

import json

import pyarrow as pa
import pyarrow.parquet as pq


def write_jsonl(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_parquet(path, columns, about=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns)
    if about is not None:
        table = table.replace_schema_metadata({b"rvpo": json.dumps(about).encode()})
    pq.write_table(table, path)
    return path


def rewards_of(log):
    """Rewards as lists, None where not scored."""
    return [[None if value != value else value for value in row] for row in log.rewards.tolist()]


def names_of(log):
    return [channel.name for channel in log.channels]


def kinds_of(log):
    return {note.kind: note.count for note in log.notes}
