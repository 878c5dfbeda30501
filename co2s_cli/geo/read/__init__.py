"""Read scenes: a scene is opened once, checked, then read window by window."""
