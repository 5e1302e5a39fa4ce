"""The image: one layer, an OCI archive that engines load, a bill of materials. Reproducible."""
