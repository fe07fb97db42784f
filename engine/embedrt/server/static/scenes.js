// Pictures that the page draws itself, as an example for models that embed pictures.

const SIDE = 224;

function disc(pen, colour, x, y, radius) {
  pen.fillStyle = colour;
  pen.beginPath();
  pen.arc(x, y, radius, 0, 2 * Math.PI);
  pen.fill();
}

function box(pen, colour, ...corners) {
  pen.fillStyle = colour;
  pen.fillRect(...corners);
}

const SCENES = {
  sea(pen) {
    box(pen, "#f7c873", 0, 0, SIDE, 120);
    disc(pen, "#f4511e", 112, 112, 40);
    box(pen, "#1565a8", 0, 120, SIDE, 104);
    for (let y = 136; y < SIDE; y += 20) box(pen, "#7fb9e6", (y * 7) % 60, y, 120, 3);
  },
  tree(pen) {
    box(pen, "#bfe3f5", 0, 0, SIDE, 170);
    box(pen, "#6aa84f", 0, 170, SIDE, 54);
    box(pen, "#6b4423", 102, 110, 20, 70);
    for (const [x, y] of [[85, 95], [112, 70], [140, 95]]) disc(pen, "#2e7d32", x, y, 36);
  },
  night(pen) {
    box(pen, "#0b1540", 0, 0, SIDE, SIDE);
    for (let i = 0; i < 60; i++) disc(pen, "#fff", (i * 83) % SIDE, (i * 47 + (i * i) % 31) % SIDE, 1 + (i % 3) / 2);
    disc(pen, "#f5f0c8", 160, 62, 28);
    disc(pen, "#0b1540", 148, 56, 26);
  },
  house(pen) {
    box(pen, "#dfeaf2", 0, 0, SIDE, SIDE);
    box(pen, "#8bc34a", 0, 180, SIDE, 44);
    box(pen, "#e8d3b0", 56, 96, 112, 90);
    pen.fillStyle = "#b23b2e";
    pen.beginPath();
    pen.moveTo(40, 98);
    pen.lineTo(112, 38);
    pen.lineTo(184, 98);
    pen.fill();
    box(pen, "#5d4037", 98, 130, 28, 56);
    for (const x of [66, 136]) box(pen, "#7fb9e6", x, 112, 22, 22);
  },
  flag(pen) {
    ["#c62828", "#ffffff", "#283593"].forEach((colour, k) => box(pen, colour, k * SIDE / 3, 0, SIDE / 3, SIDE));
  },
};

/** A file of each. */
export function drawnPictures() {
  return Promise.all(Object.entries(SCENES).map(([name, draw]) => new Promise((done) => {
    const canvas = Object.assign(document.createElement("canvas"), { width: SIDE, height: SIDE });
    draw(canvas.getContext("2d"));
    canvas.toBlob((blob) => done(new File([blob], `${name}.png`, { type: blob.type })));
  })));
}
