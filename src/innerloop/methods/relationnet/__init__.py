"""Relation networks."""
