"""A report as HTML and as PDF."""
