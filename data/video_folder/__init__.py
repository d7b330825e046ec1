"""TFDS builder for anyone's videos."""
