"use strict";
// The map: pictures on a stage that is moved and scaled; everything else of a page is plain HTML.

function startMap(map) {
  const byId = (id) => document.getElementById(id);
  const view = byId("view"), stage = byId("stage"), spot = byId("spot"), readout = byId("readout");
  const [width, height] = map.stage;  // of the stage, in its own pixels; one of the map is `map.factor` times as small
  const camera = { x: 0, y: 0, zoom: 1, whole: true };  // whole: all of the map is shown, and stays so when the view changes
  const pointers = new Map();
  const pictures = Object.fromEntries(map.layers.map((item) => [item.name, byId(`layer-${item.name}`)]));
  const samples = {};  // the pixels of each layer, read when they are first asked for
  const mapImage = pictures.map;
  let layer = map.layers[0].name, place = -1;

  stage.style.width = `${width}px`;
  stage.style.height = `${height}px`;

  const fitting = () => Math.min(view.clientWidth / width, view.clientHeight / height);
  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

  function draw() {
    camera.zoom = clamp(camera.zoom, fitting() * 0.8, Math.max(32, fitting() * 2));
    const margin = 40;  // so many pixels of the map stay in sight
    camera.x = clamp(camera.x, margin - width * camera.zoom, view.clientWidth - margin);
    camera.y = clamp(camera.y, margin - height * camera.zoom, view.clientHeight - margin);
    stage.style.transform = `translate(${camera.x}px, ${camera.y}px) scale(${camera.zoom})`;
    stage.classList.toggle("close", camera.zoom > 1.5);
    drawSpot();
    drawScale();
  }

  function fit() {
    camera.whole = true;
    camera.zoom = fitting();
    camera.x = (view.clientWidth - width * camera.zoom) / 2;
    camera.y = (view.clientHeight - height * camera.zoom) / 2;
    draw();
  }

  function zoomAt(factor, x = view.clientWidth / 2, y = view.clientHeight / 2) {
    const before = camera.zoom;
    camera.whole = false;
    camera.zoom = clamp(before * factor, fitting() * 0.8, Math.max(32, fitting() * 2));
    camera.x = x - ((x - camera.x) * camera.zoom) / before;
    camera.y = y - ((y - camera.y) * camera.zoom) / before;
    draw();
  }

  function pan(x, y) {
    camera.whole = false;
    camera.x += x;
    camera.y += y;
    draw();
  }

  function drawSpot() {
    spot.hidden = place < 0;
    if (place < 0) return;
    const { left, top, side } = map.places[place];
    spot.style.left = `${camera.x + left * camera.zoom}px`;
    spot.style.top = `${camera.y + top * camera.zoom}px`;
    spot.style.width = `${side * camera.zoom}px`;
    spot.style.height = `${side * map.stretch * camera.zoom}px`;
  }

  function drawScale() {
    if (!map.metres) return;
    const perPixel = map.metres / camera.zoom, limit = view.clientWidth * 0.25 * perPixel;
    const power = 10 ** Math.floor(Math.log10(limit));
    const length = [5, 2, 1].map((step) => step * power).find((value) => value <= limit);
    byId("scale").hidden = false;
    byId("scale").firstElementChild.style.width = `${length / perPixel}px`;
    byId("scale").lastElementChild.textContent = length >= 1000 ? `${length / 1000} km` : `${length} m`;
  }

  // layers

  function show(name) {
    layer = name;
    for (const item of map.layers) {
      pictures[item.name].hidden = item.name !== name;
      byId(`radio-${item.name}`).checked = item.name === name;
      const key = byId(`key-${item.name}`);
      if (key) key.hidden = item.name !== name;
    }
  }

  function setOpacity() {
    const value = byId("opacity").value;
    for (const picture of Object.values(pictures)) picture.style.opacity = value / 100;
    byId("opacity-value").textContent = `${value} %`;
  }

  // classes that are hidden leave the picture of the map, whose colours are all different

  function hideClasses() {
    const hidden = new Set(map.classes.filter((item) => !byId(`class-${item.id}`).checked).map((item) => item.color.join()));
    const picture = hidden.size ? withoutColors(hidden) : mapImage;
    picture.hidden = pictures.map.hidden;
    picture.style.opacity = pictures.map.style.opacity;
    pictures.map.replaceWith(picture);
    pictures.map = picture;
  }

  function withoutColors(hidden) {
    const { canvas, context } = copied(mapImage);
    const image = context.getImageData(0, 0, canvas.width, canvas.height), bytes = image.data;
    for (let at = 0; at < bytes.length; at += 4) {
      if (hidden.has(`${bytes[at]},${bytes[at + 1]},${bytes[at + 2]}`)) bytes[at + 3] = 0;
    }
    context.putImageData(image, 0, 0);
    return canvas;
  }

  function copied(image) {
    const canvas = Object.assign(document.createElement("canvas"), { width: image.naturalWidth, height: image.naturalHeight });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    return { canvas, context };
  }

  // what lies under the pointer

  function colorAt(name, across, down) {
    const { canvas, context } = (samples[name] ??= copied(name === "map" ? mapImage : pictures[name]));
    const color = context.getImageData(Math.floor(across * canvas.width), Math.floor(down * canvas.height), 1, 1).data;
    return color[3] ? [color[0], color[1], color[2]].join() : null;
  }

  function valueAt(item, across, down) {
    const step = item.ramp.findIndex((color) => color.join() === colorAt(item.name, across, down));
    if (step < 0) return "";
    const value = item.low + ((item.high - item.low) * (step + 0.5)) / item.ramp.length;
    return `${item.label.toLowerCase()} ${Math.round(100 * value)} %`;
  }

  function describe(x, y) {
    const across = (x - camera.x) / camera.zoom / width, down = (y - camera.y) / camera.zoom / height;
    if (across < 0 || down < 0 || across >= 1 || down >= 1) return "";
    const color = colorAt("map", across, down), found = map.classes.find((item) => item.color.join() === color);
    const values = map.layers.filter((item) => item.ramp).map((item) => valueAt(item, across, down));
    return [found ? found.name : "no class", ...values, placeName(across, down)].filter(Boolean).join(" · ");
  }

  function placeName(across, down) {
    const col = across * map.size[0], row = down * map.size[1];
    if (!map.transform) return `column ${Math.floor(col)}, row ${Math.floor(row)}`;
    const [a, b, c, d, e, f] = map.transform;
    return `${(a * col + b * row + c).toFixed(map.decimals)}, ${(d * col + e * row + f).toFixed(map.decimals)}`;
  }

  // least sure places

  function jump(index) {
    if (!map.places.length) return;
    place = (index + map.places.length) % map.places.length;
    const { left, top, side, text } = map.places[place];
    camera.whole = false;
    camera.zoom = Math.min(view.clientWidth, view.clientHeight) / (side * 6);
    camera.x = view.clientWidth / 2 - (left + side / 2) * camera.zoom;
    camera.y = view.clientHeight / 2 - (top + (side * map.stretch) / 2) * camera.zoom;
    draw();
    document.querySelectorAll("#places button").forEach((button, at) => button.setAttribute("aria-current", at === place));
    readout.textContent = text;
  }

  // events

  const keys = {
    ArrowLeft: () => pan(80, 0), ArrowRight: () => pan(-80, 0), ArrowUp: () => pan(0, 80), ArrowDown: () => pan(0, -80),
    "+": () => zoomAt(1.5), "=": () => zoomAt(1.5), "-": () => zoomAt(1 / 1.5), 0: fit,
    n: () => jump(place + 1), p: () => jump(place < 0 ? -1 : place - 1),
  };
  map.layers.forEach((item, at) => { keys[at + 1] = () => show(item.name); });

  view.addEventListener("keydown", (event) => {
    const action = keys[event.key];
    if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    action();
  });
  view.addEventListener("wheel", (event) => {
    if (document.activeElement !== view && !event.ctrlKey) return;  // the page scrolls until the map is chosen
    event.preventDefault();
    zoomAt(Math.exp(-event.deltaY / 300), ...inView(event));
  }, { passive: false });
  view.addEventListener("pointerdown", (event) => {
    view.focus({ preventScroll: true });
    view.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, event);
    view.classList.add("dragging");
  });
  view.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (before) drag(event, before);
    else readout.textContent = describe(...inView(event));
  });
  const release = (event) => {
    pointers.delete(event.pointerId);
    if (!pointers.size) view.classList.remove("dragging");
  };
  view.addEventListener("pointerup", release);
  view.addEventListener("pointercancel", release);

  function inView(event) {
    const box = view.getBoundingClientRect();
    return [event.clientX - box.left - view.clientLeft, event.clientY - box.top - view.clientTop];
  }

  function drag(event, before) {
    const others = [...pointers.values()].filter((item) => item.pointerId !== event.pointerId);
    if (others.length) {  // two fingers: the distance between them zooms
      const distance = (item) => Math.hypot(item.clientX - others[0].clientX, item.clientY - others[0].clientY);
      const [x, y] = inView(event), [otherX, otherY] = inView(others[0]);
      zoomAt(distance(event) / Math.max(1, distance(before)), (x + otherX) / 2, (y + otherY) / 2);
    } else {
      pan(event.clientX - before.clientX, event.clientY - before.clientY);
    }
    pointers.set(event.pointerId, event);
  }

  byId("zoom-in").addEventListener("click", () => zoomAt(1.5));
  byId("zoom-out").addEventListener("click", () => zoomAt(1 / 1.5));
  byId("zoom-fit").addEventListener("click", fit);
  byId("opacity").addEventListener("input", setOpacity);
  for (const item of map.layers) byId(`radio-${item.name}`).addEventListener("change", () => show(item.name));
  for (const item of map.classes) byId(`class-${item.id}`).addEventListener("change", hideClasses);
  document.querySelectorAll("#places button").forEach((button, at) => button.addEventListener("click", () => jump(at)));
  new ResizeObserver(() => (camera.whole ? fit() : draw())).observe(view);

  setOpacity();
  show(layer);
  fit();
  document.documentElement.dataset.ready = "map";
}

const pageData = JSON.parse(document.getElementById("page-data").textContent);
if (pageData.map) startMap(pageData.map);
