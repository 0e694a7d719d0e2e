"""A network called with weights of its own for every episode."""
