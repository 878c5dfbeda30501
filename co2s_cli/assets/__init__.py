"""Files that travel inside the package."""
