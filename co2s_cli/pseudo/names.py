"""Names of the rasters made from candidates. This module imports no torch: commands are checked before torch loads."""

LABELS, MASK, WEIGHTS = "labels", "mask", "weights"
