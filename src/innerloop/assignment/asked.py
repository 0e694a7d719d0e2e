"""What the course asks for and several of its pages name."""

PAIR = ("transfer", "fomaml")
"""The two methods of the course's last question, the first minus the second."""
SHOTS = tuple(range(1, 11))
"""Support images a class in the table over K."""
