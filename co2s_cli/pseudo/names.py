"""Names of the rasters that are cut from candidates. Loads no torch: a command is checked against them before."""

LABELS, MASK, WEIGHTS = "labels", "mask", "weights"
