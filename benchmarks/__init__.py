"""How fast an inner step with tangents is: `python -m benchmarks` (or `make bench`)."""
