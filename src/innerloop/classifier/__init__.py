"""A classifier of a person's own pictures, or vectors, from a few examples of each class."""
