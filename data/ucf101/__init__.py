"""TFDS builder for UCF-101."""
