"""Limits beyond which an input counts as damaged or hostile; they are checked before memory is allocated for it."""

MAX_TEXT_BYTES = 10_000_000
"""Largest file of settings or list of scenes."""

MAX_CATALOGUE_BYTES = 1_000_000_000
"""Largest STAC document; 100,000 items take 0.5 GB."""

MAX_BANDS = 2_000
"""Most bands of a raster; sensors have some hundreds."""

MAX_SIDE = 2**31 - 1
"""Most pixels along a side of a raster, resampled or not: GDAL counts them in 32 bits."""

MAX_WINDOWS = 5_000_000
"""Most windows of one scene: a square of 860,000 pixels at the default of 512 pixels and a quarter of overlap."""

MAX_COORDINATE = 1e12
"""Largest absolute value of a coordinate in any unit; the circumference of the earth is 4e10 millimetres."""

MIN_PIXEL_SIZE = 1e-9
"""Smallest side of a pixel in any unit; 1e-9 degrees are 0.1 mm."""
