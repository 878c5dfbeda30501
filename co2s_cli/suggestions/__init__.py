"""Suggest places of a scene where labels would improve a model most."""
