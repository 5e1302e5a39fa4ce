"""The knowledge base: what it holds, and what the loader refuses."""
