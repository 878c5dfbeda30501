"""Sizes beyond which an input is damaged or hostile rather than large, checked before anything is allocated for it."""

MAX_TEXT_BYTES = 10_000_000
"""Of a file of settings, or of a list of scenes."""

MAX_CATALOGUE_BYTES = 1_000_000_000
"""Of one STAC document: 100,000 items take 0.5 GB."""

MAX_BANDS = 2_000
"""Of a raster; sensors have some hundreds."""

MAX_SIDE = 2**31 - 1
"""Pixels along a side of a raster, also of a resampled one: GDAL counts them in 32 bits."""

MAX_WINDOWS = 5_000_000
"""Of one scene: at the usual 512 pixels and a quarter of overlap a square of 860,000 pixels."""

MAX_COORDINATE = 1e12
"""Largest absolute value of a coordinate, in any unit: the circumference of the earth is 4e10 millimetres."""

MIN_PIXEL_SIZE = 1e-9
"""Smallest length of a pixel's side, in any unit: 0.1 mm are 1e-9 degrees."""
