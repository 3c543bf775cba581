// The image to edit, and its mask, of the page of mvar_jax.serve; page.js has what is used here.
"use strict";

const board = {
  image: "", // as an address that holds it
  async open(source) {
    const picture = new Image();
    picture.src = source;
    try {
      await picture.decode();
    } catch {
      say("This file cannot be read as an image; give a PNG, JPEG or WebP.");
      return;
    }
    const shrink = Math.min(1, Math.sqrt(MOST_PIXELS / (picture.naturalWidth * picture.naturalHeight)));
    for (const canvas of [byId("picture"), byId("mask")]) {
      canvas.width = Math.max(1, Math.floor(picture.naturalWidth * shrink));
      canvas.height = Math.max(1, Math.floor(picture.naturalHeight * shrink));
    }
    const { width, height } = byId("picture");
    const paper = byId("picture").getContext("2d");
    paper.fillStyle = "white";
    paper.fillRect(0, 0, width, height);
    paper.drawImage(picture, 0, 0, width, height);
    this.image = byId("picture").toDataURL("image/png");
    byId("board-empty").hidden = true;
    byId("mode-edit").checked = true;
    say(shrink < 1 ? `The image is large: it is edited at ${width} × ${height} pixels.` : "");
    showChoices();
  },
  stroke(from, to) {
    const ink = byId("mask").getContext("2d");
    const { width, height } = byId("mask");
    ink.globalCompositeOperation = byId("erase").checked ? "destination-out" : "source-over";
    ink.strokeStyle = "red";
    ink.lineCap = "round";
    ink.lineWidth = (Number(byId("brush").value) / 100) * Math.min(width, height);
    ink.beginPath();
    ink.moveTo(...from);
    ink.lineTo(to[0], to[1] + 0.01); // a dot is a short line
    ink.stroke();
  },
  painted() {
    const { width, height } = byId("mask");
    return byId("mask").getContext("2d").getImageData(0, 0, width, height);
  },
  isBlank() {
    return !this.painted().data.some((value, i) => i % 4 === 3 && value > 127);
  },
  mask() {
    const pixels = this.painted();
    for (let i = 0; i < pixels.data.length; i += 4) {
      pixels.data.fill(pixels.data[i + 3] > 127 ? 255 : 0, i, i + 3);
      pixels.data[i + 3] = 255;
    }
    const canvas = element("canvas", { width: pixels.width, height: pixels.height });
    canvas.getContext("2d").putImageData(pixels, 0, 0);
    return canvas.toDataURL("image/png");
  },
  clear() {
    byId("mask").getContext("2d").clearRect(0, 0, byId("mask").width, byId("mask").height);
  },
  invert() {
    const pixels = this.painted();
    for (let i = 0; i < pixels.data.length; i += 4) pixels.data.set([255, 0, 0, 255 - pixels.data[i + 3]], i);
    byId("mask").getContext("2d").putImageData(pixels, 0, 0);
  },
};

function placeOf(event) {
  const box = byId("mask").getBoundingClientRect();
  return [((event.clientX - box.left) / box.width) * byId("mask").width, ((event.clientY - box.top) / box.height) * byId("mask").height];
}

let last = null; // where the brush was
byId("mask").addEventListener("pointerdown", (event) => {
  byId("mask").setPointerCapture(event.pointerId);
  last = placeOf(event);
  board.stroke(last, last);
});
byId("mask").addEventListener("pointermove", (event) => {
  if (!last) return;
  const place = placeOf(event);
  board.stroke(last, place);
  last = place;
});
for (const kind of ["pointerup", "pointercancel"]) byId("mask").addEventListener(kind, () => (last = null));

byId("upload").addEventListener("change", async () => {
  const [file] = byId("upload").files;
  if (!file) return;
  const address = URL.createObjectURL(file);
  await board.open(address);
  URL.revokeObjectURL(address);
});
byId("clear").addEventListener("click", () => board.clear());
byId("invert").addEventListener("click", () => board.image && board.invert());
