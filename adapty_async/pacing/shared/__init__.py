"""One rate limit for several processes on a machine: `SharedPacer`, which keeps its state in a file."""
