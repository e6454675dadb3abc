// A chosen file as what is sent: PNG or JPEG, and not too large.

const FILE_MAX = 700000; // larger ones would not fit the service's JSON limit as base64
const SIDE_MAX = 512;

export async function prepared(file) {
  const bitmap = await createImageBitmap(file);
  if (file.size <= FILE_MAX && ['image/png', 'image/jpeg'].includes(file.type)) return file;
  const ratio = Math.min(1, SIDE_MAX / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement('canvas');
  canvas.width = Math.max(1, Math.round(bitmap.width * ratio));
  canvas.height = Math.max(1, Math.round(bitmap.height * ratio));
  canvas.getContext('2d').drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => canvas.toBlob(resolve, 'image/png'));
}
