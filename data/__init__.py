"""TFDS builders, one folder a data set: `tfds build data/NAME` finds them."""
