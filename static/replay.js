// A request as a link (#r=…, the request itself as base64url) and as a curl line.

export function base64(bytes) {
  let text = '';
  for (let i = 0; i < bytes.length; i += 4096)
    text += String.fromCharCode(...bytes.subarray(i, i + 4096));
  return btoa(text);
}

export async function blobBase64(blob) {
  return base64(new Uint8Array(await blob.arrayBuffer()));
}

export function toHash(request) {
  const text = base64(new TextEncoder().encode(JSON.stringify(request)));
  return '#r=' + text.replaceAll('+', '-').replaceAll('/', '_').replace(/=+$/, '');
}

// The request of a link, or null when there is none or it is damaged.
export function fromHash(hash) {
  if (!hash.startsWith('#r=')) return null;
  try {
    const text = atob(hash.slice(3).replaceAll('-', '+').replaceAll('_', '/'));
    const request = JSON.parse(new TextDecoder().decode(
      Uint8Array.from(text, (c) => c.charCodeAt(0))));
    return request && typeof request === 'object' ? request : null;
  } catch {
    return null;
  }
}

export function curlLine(request) {
  const url = new URL('counterfactual', document.baseURI.split('#')[0]);
  const body = JSON.stringify(request).replaceAll("'", "'\\''");
  return `curl -s '${url}' -H 'Content-Type: application/json' -d '${body}'`;
}
