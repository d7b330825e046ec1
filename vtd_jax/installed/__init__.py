"""How this package is installed: where the commands are, and which extras."""
