"""Where labels would teach a model most."""
