"""What claims to be huge is refused in little memory: in children that may take 200 MB more than their imports."""

import json

import pytest
from support import forked, small

from co2s_cli.models import weights

pytestmark = pytest.mark.slow  # a fork server imports everything first

MEMORY = 200_000_000
GEOTRANSFORM = "<SRS>EPSG:32633</SRS><GeoTransform>500000,10,0,5500000,0,-10</GeoTransform>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("limits")
    forked.call(small.build, folder)
    forked.call(hostile, folder)
    return folder


def hostile(folder):
    """Files that are small on disk."""
    import rasterio
    import torch
    from safetensors.torch import load_file, save_file
    from support.rasters import UTM

    sparse = {"driver": "GTiff", "dtype": "uint8", "SPARSE_OK": True, **UTM}
    with rasterio.open(folder / "empty.tif", "w", width=2, height=2 * 10**9, count=3, blockysize=1_000_000, **sparse):
        pass
    for name, size in (("huge.vrt", 2 * 10**9), ("fold.vrt", 4000 * 96)):
        bands = "".join(
            f'<VRTRasterBand dataType="Byte" band="{band}"><SimpleSource><SourceFilename relativeToVRT="1">scene.tif'
            f'</SourceFilename><SourceBand>{band}</SourceBand><DstRect xOff="0" yOff="0" xSize="{size}" '
            f'ySize="{size}"/></SimpleSource></VRTRasterBand>'
            for band in (1, 2, 3)
        )
        (folder / name).write_text(
            f'<VRTDataset rasterXSize="{size}" rasterYSize="{size}">{GEOTRANSFORM}{bands}</VRTDataset>'
        )
    one = '<VRTRasterBand dataType="Byte" band="{}"/>'
    bands = "".join(one.format(band + 1) for band in range(4000))
    (folder / "bands.vrt").write_text(f'<VRTDataset rasterXSize="9" rasterYSize="9">{GEOTRANSFORM}{bands}</VRTDataset>')
    torch.save({"model": {"backbone.pos_embed": torch.zeros(1).expand(10**6, 10**6)}}, folder / "expanded.pth")
    path = folder / "pair.safetensors"
    plain = json.loads(weights._metadata(path)["manifest"])
    plain["students"]["clip"]["backbone"]["options"]["layers"] = 10_000_000
    tensors, text = load_file(path), json.dumps(plain)
    facts = {"format": "1", "manifest": text, "digest": weights.digest_of(text, tensors)}
    save_file(tensors, folder / "layers.safetensors", metadata=facts)


MODEL = ("-m", "model.safetensors", "-o", "out.tif")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("predict", "scene.tif", *MODEL, "--res", "1e-9"), 3),
        (("predict", "scene.tif", *MODEL, "--res", "1e-3"), 3),
        (("predict", "empty.tif", *MODEL), 3),
        (("predict", "huge.vrt", *MODEL), 3),
        (("predict", "fold.vrt", *MODEL), 3),
        (("info", "bands.vrt"), 3),
        (("predict", "scene.tif", "-m", "layers.safetensors", "-o", "out.tif"), 5),
        (("import", "expanded.pth", "--dataset", "loveda", "--out", "out.safetensors"), 5),
        (("predict", "@/dev/zero", *MODEL), 3),
        (("train", "/dev/zero"), 3),
    ],
)
def test_what_claims_to_be_huge_is_refused_in_little_memory(folder, words, code):
    outcome = forked.run(words, folder, memory=MEMORY)
    assert outcome.code == code, outcome
    assert outcome.stderr.count("error: ") == 1
    assert outcome.grown < MEMORY
