// A chosen file as what is sent: PNG or JPEG, not too large; of a dark drawing on light paper, which
// greyscale models do not know, the ink.

import {inkBlob} from './sketch.js';

const FILE_MAX = 700000; // larger ones would not fit the service's JSON limit as base64
const SIDE_MAX = 512;
const PAPER = 160; // mean level of the border above which a picture is taken for light paper

// {blob, inverted}. `variable`: the model's image.
export async function prepared(file, variable) {
  const bitmap = await createImageBitmap(file);
  const ratio = Math.min(1, SIDE_MAX / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement('canvas');
  const w = canvas.width = Math.max(1, Math.round(bitmap.width * ratio));
  const h = canvas.height = Math.max(1, Math.round(bitmap.height * ratio));
  const context = canvas.getContext('2d', {willReadFrequently: true});
  context.drawImage(bitmap, 0, 0, w, h);
  const paper = variable.channels === 1 && border(context.getImageData(0, 0, w, h).data, w, h);
  if (paper > PAPER) {
    const ink = inkOf(context.getImageData(0, 0, w, h), paper);
    return {blob: await inkBlob(ink, w, h, variable.height, variable.width), inverted: true};
  }
  if (file.size <= FILE_MAX && ['image/png', 'image/jpeg'].includes(file.type))
    return {blob: file, inverted: false};
  return {blob: await new Promise((resolve) => canvas.toBlob(resolve, 'image/png')),
    inverted: false};
}

// Level of a pixel over black, as the service lays transparent parts.
const level = (d, i) => (0.299 * d[i] + 0.587 * d[i + 1] + 0.114 * d[i + 2]) * d[i + 3] / 255;

function border(data, w, h) {
  let sum = 0, count = 0;
  for (let y = 0; y < h; y++)
    for (let x = 0; x < w; x += y === 0 || y === h - 1 ? 1 : Math.max(1, w - 1)) {
      sum += level(data, 4 * (y * w + x));
      count++;
    }
  return sum / count;
}

// How much darker than the paper, stretched to 0..255; shadows of a photograph count as paper.
function inkOf({data}, paper) {
  let darkest = 255;
  for (let i = 0; i < data.length; i += 4) darkest = Math.min(darkest, level(data, i));
  const top = 0.8 * paper - 0.2 * (paper - darkest), ink = new Uint8ClampedArray(data.length);
  for (let i = 0; i < data.length; i += 4)
    ink[i] = 255 * (top - level(data, i)) / Math.max(1, top - darkest);
  return ink;
}
