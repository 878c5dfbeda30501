"""Which addresses are files and which are folders: object stores have no folders, so that the name tells."""

import pytest

from co2s_cli.addresses import has_file_suffix


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("s3://maps/2026/map.tif", True),
        ("s3://maps/2026.05/map.tif", True),
        ("s3://maps/2026.05", False),
        ("s3://maps/2026/", False),
        ("s3://maps.example", False),
        ("s3://maps.example/", False),
    ],
)
def test_a_suffix_of_the_key_makes_a_file(address, told):
    assert has_file_suffix(address) is told
