"""What /proc shows: the parts that text alone decides."""
