"""The runtime: load emitted source, train it, measure it, report on it."""
