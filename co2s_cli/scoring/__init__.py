"""A map against the truth: counted block by block, then judged, then reported."""
