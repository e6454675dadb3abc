// The drawing area, and how a drawing becomes an image the model knows: like MNIST, the ink is
// scaled into a box of 20/28 of the side, smoothly, and its centre of mass is put in the middle.

const PEN = 22;

export class Sketch {
  // mark: what shows the keyboard's pen.
  constructor(canvas, mark, onChange) {
    this.canvas = canvas;
    this.mark = mark;
    this.context = canvas.getContext('2d', {willReadFrequently: true});
    this.onChange = onChange;
    this.pen = {x: canvas.width / 2, y: canvas.height / 2, down: false};
    this.clear();
    canvas.addEventListener('pointerdown', (e) => this.start(e));
    canvas.addEventListener('pointermove', (e) => this.move(e));
    for (const name of ['pointerup', 'pointercancel'])
      canvas.addEventListener(name, () => { this.last = null; });
    canvas.addEventListener('keydown', (e) => this.key(e));
    canvas.addEventListener('focus', () => {
      this.mark.hidden = !canvas.matches(':focus-visible');
      this.showPen();
    });
    canvas.addEventListener('blur', () => {
      this.pen.down = false;
      this.mark.hidden = true;
    });
  }

  showPen() {
    this.mark.style.left = `${100 * this.pen.x / this.canvas.width}%`;
    this.mark.style.top = `${100 * this.pen.y / this.canvas.height}%`;
    this.mark.classList.toggle('down', this.pen.down);
  }

  clear() {
    this.context.fillStyle = '#000';
    this.context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    this.empty = true;
    this.last = null;
  }

  place(event) {
    const box = this.canvas.getBoundingClientRect();
    return {x: (event.clientX - box.left) * this.canvas.width / box.width,
      y: (event.clientY - box.top) * this.canvas.height / box.height};
  }

  start(event) {
    if (event.button !== 0) return;
    event.preventDefault();
    this.canvas.focus({preventScroll: true});
    this.mark.hidden = true;
    this.canvas.setPointerCapture(event.pointerId);
    this.onChange();
    this.last = this.place(event);
    this.line(this.last, this.last);
  }

  move(event) {
    if (!this.last) return;
    for (const e of event.getCoalescedEvents?.() ?? [event]) {
      const to = this.place(e);
      this.line(this.last, to);
      this.last = to;
    }
  }

  line(from, to) {
    const c = this.context;
    c.strokeStyle = '#fff';
    c.lineWidth = PEN;
    c.lineCap = c.lineJoin = 'round';
    c.beginPath();
    c.moveTo(from.x, from.y);
    c.lineTo(to.x + 0.01, to.y);
    c.stroke();
    this.empty = false;
  }

  key(event) {
    const moves = {ArrowLeft: [-10, 0], ArrowRight: [10, 0], ArrowUp: [0, -10], ArrowDown: [0, 10]};
    if (event.key === ' ') {
      event.preventDefault();
      this.pen.down = !this.pen.down;
      if (this.pen.down) { this.onChange(); this.line(this.pen, this.pen); }
    } else if (moves[event.key]) {
      event.preventDefault();
      const clamp = (v) => Math.min(this.canvas.width - 10, Math.max(10, v));
      const to = {x: clamp(this.pen.x + moves[event.key][0]),
        y: clamp(this.pen.y + moves[event.key][1])};
      if (this.pen.down) this.line(this.pen, to);
      Object.assign(this.pen, to);
    } else {
      return;
    }
    this.mark.hidden = false;
    this.showPen();
  }

  // A PNG blob of the model's size.
  toBlob(height, width) {
    const {width: sw, height: sh} = this.canvas;
    return inkBlob(this.context.getImageData(0, 0, sw, sh).data, sw, sh, height, width);
  }
}

// Ink (the first of four channels counts) as a PNG blob of the model's size. The averaging makes
// thin lines pale: they are drawn as broad as a pen of that model's size, and white.
export function inkBlob(ink, w, h, height, width) {
  let out = centred(ink, w, h, width, height);
  if (thin(out)) out = broader(out, width, height);
  const most = out.reduce((a, b) => Math.max(a, b), 1);
  return grayBlob(out.map((v) => v * 255 / most), width, height);
}

// The ink's mean level, weighted by itself: near 255 in broad lines, half of it where a line is
// narrower than a pixel.
function thin(levels) {
  let sum = 0, squares = 0;
  for (const v of levels) { sum += v; squares += v * v; }
  return squares < 170 * sum;
}

function broader(levels, w, h) {
  const out = new Uint8ClampedArray(levels);
  for (let y = 1; y < h - 1; y++)
    for (let x = 1; x < w - 1; x++) {
      const i = y * w + x;
      out[i] = Math.max(levels[i], 0.8 * Math.max(levels[i - 1], levels[i + 1], levels[i - w],
        levels[i + w]));
    }
  return out;
}

// Bounding box and centre of mass of the ink.
function measure(ink, w, h) {
  let left = w, right = -1, top = h, bottom = -1, sum = 0, sx = 0, sy = 0;
  for (let y = 0; y < h; y++)
    for (let x = 0; x < w; x++) {
      const v = ink[4 * (y * w + x)];
      if (v < 16) continue;
      left = Math.min(left, x); right = Math.max(right, x);
      top = Math.min(top, y); bottom = Math.max(bottom, y);
      sum += v; sx += v * (x + 0.5); sy += v * (y + 0.5);
    }
  return sum ? {side: Math.max(right - left, bottom - top) + 1, x: sx / sum, y: sy / sum} : null;
}

// Every target pixel is the mean of the source area it covers.
function centred(ink, sw, sh, w, h) {
  const out = new Uint8ClampedArray(w * h), m = measure(ink, sw, sh);
  if (!m) return out;
  const ratio = m.side / (Math.min(w, h) * 20 / 28); // source pixels per target pixel
  for (let y = 0; y < h; y++)
    for (let x = 0; x < w; x++) {
      const x0 = m.x + (x - w / 2) * ratio, y0 = m.y + (y - h / 2) * ratio;
      out[y * w + x] = Math.round(area(ink, sw, sh, x0, y0, ratio));
    }
  return out;
}

function area(ink, sw, sh, x0, y0, size) {
  let sum = 0;
  const yEnd = Math.min(sh, y0 + size), xEnd = Math.min(sw, x0 + size);
  for (let y = Math.max(0, Math.floor(y0)); y < yEnd; y++) {
    const wy = Math.min(y + 1, y0 + size) - Math.max(y, y0);
    for (let x = Math.max(0, Math.floor(x0)); x < xEnd; x++)
      sum += wy * (Math.min(x + 1, x0 + size) - Math.max(x, x0)) * ink[4 * (y * sw + x)];
  }
  return sum / (size * size);
}

function grayBlob(gray, w, h) {
  const canvas = document.createElement('canvas');
  canvas.width = w;
  canvas.height = h;
  const context = canvas.getContext('2d'), image = context.createImageData(w, h);
  for (let i = 0; i < w * h; i++) {
    image.data.fill(gray[i], 4 * i, 4 * i + 3);
    image.data[4 * i + 3] = 255;
  }
  context.putImageData(image, 0, 0);
  return new Promise((resolve) => canvas.toBlob(resolve, 'image/png'));
}
