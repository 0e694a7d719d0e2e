"""Trainings and evaluations."""
