"""TFDS builder for HMDB-51."""
