"""TFDS builder for Kinetics-400."""
