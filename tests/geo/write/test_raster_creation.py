"""Creation options are checked before any work."""

import pytest

from co2s_cli.errors import ConfigError
from co2s_cli.geo.write.raster import cog_options


def test_options_are_taken_in_any_case():
    assert cog_options(["compress=zstd", "LEVEL=12", "num_threads=2"]) == {
        "COMPRESS": "ZSTD", "LEVEL": "12", "NUM_THREADS": "2",
    }  # fmt: skip


@pytest.mark.parametrize(
    "pair", ["COMPRESS=JPEG", "COMPRESS", "FOO=1", "BLOCKSIZE=300", "TILING_SCHEME=GoogleMapsCompatible", "LEVEL="]
)
def test_bad_options_are_a_matter_of_usage(pair):
    with pytest.raises(ConfigError, match="--co"):
        cog_options([pair])
