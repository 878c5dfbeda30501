"""Names of the rasters of a map, without torch: commands are checked against them before torch is imported."""

CLASS, CONFIDENCE, PROBABILITIES, DISAGREEMENT = "class", "confidence", "probabilities", "disagreement"
