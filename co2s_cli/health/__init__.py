"""What a machine has of what co2s wants, one function a check."""
