"""The workshop's bench: the `fedsparse` command, the demo, data sets, benchmarks."""
