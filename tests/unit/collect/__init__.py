"""Collectors: what they read, and what they refuse."""
