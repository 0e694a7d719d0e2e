"""BOIL."""
