"""A method of another package than innerloop, as its author would write it."""
