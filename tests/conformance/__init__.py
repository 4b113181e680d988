"""coremltools' own test suite, run here with the executor in Core ML's place."""
