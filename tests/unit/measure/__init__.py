"""The measure: worked examples, properties, references."""
