"""Probes, without a system to try them on."""
