"""The version, in the one place where it is written; the package's metadata are built from it."""

__version__ = "0.1.0"
