"""Containers: an OCI runtime bundle's configuration, and running containers by their name."""
