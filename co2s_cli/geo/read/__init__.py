"""Scenes in: opened once, checked, then read window by window."""
