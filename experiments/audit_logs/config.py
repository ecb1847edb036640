"""How many logs. The thresholds of the audit were fixed before these seeds were looked at."""

SEED = 20261130
VARIANTS = 40  # of every planted kind
CLEAN_LOGS = 500  # of every clean kind
