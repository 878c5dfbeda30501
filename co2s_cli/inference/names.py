"""Names of the rasters of a map. Loads no torch: a command is checked against them before."""

CLASS, CONFIDENCE, PROBABILITIES, DISAGREEMENT = "class", "confidence", "probabilities", "disagreement"
