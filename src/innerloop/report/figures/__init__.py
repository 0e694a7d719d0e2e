"""Figures, each drawn from files alone."""
