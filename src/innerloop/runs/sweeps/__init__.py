"""Many runs: a directory is the plan, the queue and the result of a sweep. Imports no torch."""
