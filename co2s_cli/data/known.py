"""The published data sets as plain data: classes, colours, prompts, and the recipe that the papers used.

Facts from the papers' public material; the images themselves are not ours to ship.
"""

from __future__ import annotations

from dataclasses import dataclass

from co2s_cli.classes import ClassMap, LandClass


@dataclass(frozen=True, slots=True)
class DataSet:
    """One published data set."""

    name: str
    classes: ClassMap
    crop: int
    """Side of the training crops and of the evaluation windows, in pixels."""
    trained_on: str
    """One phrase about the imagery."""
    ground_resolution: float | None = None
    """Metres per pixel, where the imagery lies on the ground and has one."""
    zero_ignored: bool = False
    """Whether label files hold 1 … N, and 0 for "not labelled"; else ids from 0."""


def _classes(text: str) -> ClassMap:
    """One class a line: `r,g,b|concept, concept, …`; the first concept is the name."""
    items = []
    for line in text.strip().splitlines():
        color, _, words = line.partition("|")
        red, green, blue = (int(value) for value in color.split(","))
        prompts = tuple(word.strip() for word in words.split(","))
        items.append(LandClass(prompts[0], (red, green, blue), prompts))
    return ClassMap(tuple(items))


_WHDLD = _classes("""
255,0,0|building, residential building, commercial building, industrial building, high-rise, low-rise
255,255,0|road, highway, arterial road, residential road, asphalt road, concrete road
192,192,0|pavement, sidewalk, pedestrian path, concrete pavement, brick pavement, stone pavement
0,255,0|vegetation, tree, shrub, grassland, farmland, vegetation patch
128,128,128|bare soil, unvegetated land, soil exposure, construction site, quarry, desert area
0,0,255|water, lake, river, pond, water body, water surface, reservoir
""")

_LOVEDA = _classes("""
255,255,255|background, undeveloped land, open space, background area, unclassified region
255,0,0|building, residential building, commercial building, industrial building, public building, high-rise
255,255,0|road, highway, urban road, rural road, asphalt road, concrete road
0,0,255|water, lake, river, pond, reservoir, water body
159,129,183|barren, bare soil, desert, construction site, mining area, exposed rock
0,255,0|forest, deciduous forest, evergreen forest, mixed forest, woodland, tree canopy
255,195,128|agriculture, farmland, cropland, orchard, vineyard, greenhouse
""")

_POTSDAM = _classes("""
255,255,255|impervious_surface, asphalt, concrete, pavement, roof, sidewalk
0,0,255|building, residential building, commercial building, church, factory, historical building
0,255,255|low_vegetation, grass, lawn, meadow, pasture, flower bed
0,255,0|tree, deciduous tree, evergreen tree, tree row, park tree, forest edge
255,255,0|car, passenger car, truck, van, bus, parked vehicle
255,0,0|clutter, fence, wall, railway, construction site, unclassified object
""")

_GID15 = _classes("""
200,0,0|industrial_land, factory area, industrial park, workshop zone, warehouse area, industrial facility
250,0,150|urban_residential, apartment area, high-density housing, urban housing, residential block, city community
200,150,150|rural_residential, village housing, countryside settlement, rural homestead, low-rise rural house, scattered village
250,150,150|traffic_land, road network, highway, urban road, transport corridor, parking and driveway
0,200,0|paddy_field, rice field, paddy rice farmland, flooded field, irrigated paddy, cultivated paddy
150,250,0|irrigated_land, irrigated farmland, canal-irrigated field, well-irrigated cropland, watered field, intensive irrigated land
150,200,150|dry_cropland, rainfed cropland, dry farming field, non-irrigated farmland, upland crop field, seasonal cropland
200,0,200|garden_plot, orchard, vegetable garden, economic crop field, plantation, horticultural land
150,0,250|arbor_woodland, forest land, tree plantation, tall woodland, closed canopy forest, tree-covered area
150,150,250|shrub_land, bushland, scrub vegetation, low shrub area, shrub-covered slope, sparse shrub
250,200,0|natural_grassland, native grassland, pasture, meadow, natural herbaceous area, grazing land
200,200,0|artificial_grassland, man-made grassland, artificial lawn, urban green grass, reclaimed grassland, managed grass field
0,0,200|river, river channel, stream, watercourse, flowing water, river system
0,150,200|lake, water lake, inland lake, large water body, open water surface, natural lake
0,200,250|pond, fish pond, small water pond, artificial pond, storage pond, still water body
""")

_MARS = _classes("""
128,0,0|Martian Soil, mars soil, red soil, martian regolith, planetary soil, extraterrestrial soil
0,128,0|Sands, martian sand, fine grains, loose sand, desert sand, silica sand
128,128,0|Gravel, martian gravel, coarse gravel, pebbles, stone fragments, rocky gravel
0,0,128|Bedrock, martian bedrock, solid rock, bedrock layer, parent rock, foundation rock
128,0,128|Rocks, martian rocks, boulders, stone blocks, rock formations, large rocks
0,128,128|Tracks, rover tracks, vehicle tracks, wheel tracks, trail marks, path imprints
128,128,128|Shadows, martian shadows, rock shadows, shadow regions, dark areas, sun shadows
64,0,0|Unknown, unidentified object, unknown material, ambiguous feature, unclassified, mysterious object
192,0,0|Background, martian background, scene background, context area, surroundings, environment background
""")

_SETS = (
    DataSet("whdld", _WHDLD, 256, "WHDLD, satellite images of Wuhan at 2 m", 2.0, zero_ignored=True),
    DataSet(
        "loveda", _LOVEDA, 512, "LoveDA, aerial images of Nanjing, Changzhou, Wuhan at 0.3 m", 0.3, zero_ignored=True
    ),
    DataSet("potsdam", _POTSDAM, 512, "ISPRS Potsdam, aerial images at 5 cm", 0.05, zero_ignored=True),
    DataSet("gid15", _GID15, 512, "GID-15, Gaofen-2 scenes"),
    DataSet("mer", _MARS, 512, "MER, Mars rover images"),
    DataSet("msl", _MARS, 512, "MSL, Mars rover images"),
)

DATA_SETS = {item.name: item for item in _SETS}
"""The data sets by the name that the command line uses."""
