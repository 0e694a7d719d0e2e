"""Transductive information maximisation."""
