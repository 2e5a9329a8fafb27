"""Meta-World's benchmarks: robot arms with hidden goals, for `env=gymnasium`."""
