"""The hand-in as one archive: `pack.py` makes it, `check.py` takes it apart again."""
