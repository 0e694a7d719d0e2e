"""SimpleShot."""
