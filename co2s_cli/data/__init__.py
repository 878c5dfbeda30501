"""What training and the samples read or make."""
