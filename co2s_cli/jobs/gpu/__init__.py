"""Checks and measurements of the package on this machine's GPU, each in a process of its own."""
