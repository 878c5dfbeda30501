"""Checks of a machine for `co2s doctor`: whether it has what co2s needs. One function per check."""
