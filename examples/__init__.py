"""Real models on real inputs: used by the demo, the tests and the benchmarks."""
