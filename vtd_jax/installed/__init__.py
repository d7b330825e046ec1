"""How this package is installed, where the commands are, which extras; requests to servers."""
