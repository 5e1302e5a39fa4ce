"""Facts of the host that can be read from text alone."""
