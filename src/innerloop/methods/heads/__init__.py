"""Heads that are found on features."""
