// The slice viewer: three planes of one case. Volumes come as sprites, slices along Z side by side in one picture: a JPEG
// of the image, a PNG with the prediction in red and the reference in green.
const cases = JSON.parse(document.getElementById("data").textContent);
const view = document.getElementById("viewer");
const planes = [
  { name: "axial", across: 0, down: 1, through: 2 },
  { name: "coronal", across: 0, down: 2, through: 1 },
  { name: "sagittal", across: 1, down: 2, through: 0 },
];
const state = { volume: null, at: [0, 0, 0], opacity: 0.35, prediction: true, reference: true, number: -1 };
const $ = (id) => document.getElementById(id);

async function pixels(source) {
  const picture = new Image();
  picture.src = source;
  await picture.decode();
  const canvas = document.createElement("canvas");
  canvas.width = picture.width;
  canvas.height = picture.height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(picture, 0, 0);
  return { data: context.getImageData(0, 0, picture.width, picture.height).data, width: picture.width };
}

async function load(number) {
  const chosen = cases[number];
  state.number = number;
  const [image, labels] = await Promise.all([pixels(chosen.image), pixels(chosen.labels)]);
  if (state.number !== number) return; // another was chosen meanwhile
  const [nx, ny, nz] = chosen.shape;
  const grey = new Uint8Array(nx * ny * nz), prediction = new Uint8Array(nx * ny * nz), reference = new Uint8Array(nx * ny * nz);
  for (let z = 0; z < nz; z++) {
    const left = (z % chosen.columns) * nx, top = Math.floor(z / chosen.columns) * ny;
    for (let y = 0; y < ny; y++) {
      for (let x = 0; x < nx; x++) {
        const from = 4 * ((top + y) * image.width + left + x), to = x + nx * (y + ny * z);
        grey[to] = image.data[from];
        prediction[to] = labels.data[from];
        reference[to] = labels.data[from + 1];
      }
    }
  }
  state.volume = { ...chosen, grey, prediction, reference };
  state.at = [...chosen.start];
  $("case-name").textContent = `${chosen.name}: ${chosen.said}`;
  for (const button of document.querySelectorAll("[data-case]")) {
    button.setAttribute("aria-pressed", String(Number(button.dataset.case) === number));
  }
  for (const plane of planes) {
    plane.slider.max = chosen.shape[plane.through] - 1;
  }
  draw();
  view.dataset.ready = chosen.name;
}

function draw() {
  const volume = state.volume;
  if (!volume) return;
  for (const plane of planes) drawPlane(plane, volume);
}

function drawPlane(plane, volume) {
  const { across, down, through } = plane;
  const width = volume.shape[across], height = volume.shape[down], slice = state.at[through];
  const steps = [1, volume.shape[0], volume.shape[0] * volume.shape[1]];
  const mm = [width * volume.spacing[across], height * volume.spacing[down]];
  const zoom = Math.min(380 / mm[0], 380 / mm[1]);
  const canvas = plane.canvas, ratio = window.devicePixelRatio || 1;
  canvas.style.width = `${mm[0] * zoom}px`;
  canvas.width = Math.round(mm[0] * zoom * ratio);
  canvas.height = Math.round(mm[1] * zoom * ratio);
  // rows run downwards on the screen, anterior and superior are up; right of the patient is on the left
  const index = (u, v) => slice * steps[through] + (across === 0 ? width - 1 - u : u) * steps[across] + (height - 1 - v) * steps[down];
  const small = document.createElement("canvas");
  small.width = width;
  small.height = height;
  const context = small.getContext("2d");
  const out = context.createImageData(width, height);
  for (let v = 0; v < height; v++) {
    for (let u = 0; u < width; u++) {
      const i = index(u, v), o = 4 * (v * width + u), label = state.prediction ? volume.prediction[i] : 0;
      const colour = volume.colours[label], share = colour ? state.opacity : 0;
      for (let c = 0; c < 3; c++) out.data[o + c] = volume.grey[i] * (1 - share) + (colour ? colour[c] * share : 0);
      out.data[o + 3] = 255;
    }
  }
  context.putImageData(out, 0, 0);
  const shown = canvas.getContext("2d");
  shown.imageSmoothingEnabled = false;
  shown.drawImage(small, 0, 0, canvas.width, canvas.height);
  const sizes = [canvas.width / width, canvas.height / height];
  if (state.reference) outline(shown, volume.reference, index, width, height, sizes, volume.colours, ratio, true);
  if (state.prediction) outline(shown, volume.prediction, index, width, height, sizes, volume.colours, ratio, false);
  plane.slider.value = slice;
  plane.output.textContent = `${plane.name} ${slice + 1} of ${volume.shape[through]}`;
}

// The edges between voxels of different labels: the reference's white on black, so that it is seen on any colour.
function outline(context, labels, index, width, height, [sx, sy], colours, ratio, reference) {
  const paths = new Map();
  const line = (label, x0, y0, x1, y1) => {
    if (!paths.has(label)) paths.set(label, new Path2D());
    paths.get(label).moveTo(x0 * sx, y0 * sy);
    paths.get(label).lineTo(x1 * sx, y1 * sy);
  };
  const at = (u, v) => (u < 0 || v < 0 || u >= width || v >= height ? 0 : labels[index(u, v)]);
  for (let v = 0; v < height; v++) {
    for (let u = 0; u < width; u++) {
      const label = at(u, v);
      if (!label) continue;
      if (at(u - 1, v) !== label) line(label, u, v, u, v + 1);
      if (at(u + 1, v) !== label) line(label, u + 1, v, u + 1, v + 1);
      if (at(u, v - 1) !== label) line(label, u, v, u + 1, v);
      if (at(u, v + 1) !== label) line(label, u, v + 1, u + 1, v + 1);
    }
  }
  for (const [label, path] of paths) {
    if (reference) {
      context.lineWidth = 3 * ratio;
      context.strokeStyle = "#000";
      context.stroke(path);
    }
    context.lineWidth = (reference ? 1.4 : 1) * ratio;
    context.strokeStyle = reference ? "#fff" : `rgb(${colours[label] || [255, 255, 255]})`;
    context.stroke(path);
  }
}

function scroll(plane, by) {
  if (!state.volume) return;
  const last = state.volume.shape[plane.through] - 1;
  state.at[plane.through] = Math.min(last, Math.max(0, state.at[plane.through] + by));
  draw();
}

for (const plane of planes) {
  plane.canvas = $(`plane-${plane.name}`);
  plane.slider = $(`slice-${plane.name}`);
  plane.output = $(`where-${plane.name}`);
  plane.slider.addEventListener("input", () => scroll(plane, Number(plane.slider.value) - state.at[plane.through]));
  plane.canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    scroll(plane, event.deltaY > 0 ? -1 : 1);
  }, { passive: false });
  plane.canvas.addEventListener("keydown", (event) => {
    const by = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: 10, PageDown: -10 }[event.key];
    if (!by) return;
    event.preventDefault();
    scroll(plane, by);
  });
  plane.canvas.addEventListener("click", (event) => {
    const volume = state.volume;
    if (!volume) return;
    const box = plane.canvas.getBoundingClientRect();
    const u = Math.floor(((event.clientX - box.left) / box.width) * volume.shape[plane.across]);
    const v = Math.floor(((event.clientY - box.top) / box.height) * volume.shape[plane.down]);
    const clip = (value, axis) => Math.min(volume.shape[axis] - 1, Math.max(0, value));
    state.at[plane.across] = clip(plane.across === 0 ? volume.shape[0] - 1 - u : u, plane.across);
    state.at[plane.down] = clip(volume.shape[plane.down] - 1 - v, plane.down);
    draw();
  });
}
$("opacity").addEventListener("input", (event) => {
  state.opacity = Number(event.target.value) / 100;
  draw();
});
for (const name of ["prediction", "reference"]) {
  $(`show-${name}`).addEventListener("change", (event) => {
    state[name] = event.target.checked;
    draw();
  });
}
for (const button of document.querySelectorAll("[data-case]")) {
  button.addEventListener("click", () => load(Number(button.dataset.case)));
}
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || /^(SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
  if (event.target.tagName === "INPUT" && event.target.type !== "checkbox") return;
  const box = { p: "show-prediction", r: "show-reference" }[event.key];
  if (box) $(box).click();
  const by = { n: 1, b: -1 }[event.key];
  if (by) load((state.number + by + cases.length) % cases.length);
});
load(0);
