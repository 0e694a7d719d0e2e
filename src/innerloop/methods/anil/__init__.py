"""ANIL."""
