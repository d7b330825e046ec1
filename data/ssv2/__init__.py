"""TFDS builder for Something-Something v2."""
