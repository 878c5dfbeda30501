<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>
<qgis version="3.16" styleCategories="Symbology">
  <pipe>
    <rasterrenderer type="paletted" band="1" opacity="1" alphaBand="-1" nodataColor="">
      <rasterTransparency />
      <colorPalette>
        <paletteEntry value="0" color="#d64541" alpha="255" label="building" />
        <paletteEntry value="1" color="#fac558" alpha="255" label="road" />
        <paletteEntry value="2" color="#aaaab2" alpha="255" label="pavement" />
        <paletteEntry value="3" color="#549e49" alpha="255" label="vegetation" />
        <paletteEntry value="4" color="#b08054" alpha="255" label="bare soil" />
        <paletteEntry value="5" color="#4285c8" alpha="255" label="water" />
      </colorPalette>
    </rasterrenderer>
  </pipe>
  <blendMode>0</blendMode>
</qgis>
