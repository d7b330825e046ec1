"""One device: every way to compute the image tower and the training step, and their estimates."""
