"""Baseline++."""
