"""Reports: nothing lost, nothing computed, nothing dangerous printed."""
