// Thumbnails of the example pictures that the service holds for a model.

const MOST = 20;
let index = null; // {model: [file, ...]}, names escaped as they stand in an address

async function load() {
  try {
    const reply = await fetch('examples/index.json');
    index = reply.ok ? await reply.json() : {};
  } catch {
    index = {};
  }
}

const isPicture = (file) => /\.(png|jpe?g)$/i.test(file);

// What the model's folder holds: {pictures: [{url, name}], credits: url or null}.
export async function examplesOf(model) {
  if (!index) await load();
  const files = index[model] ?? [], base = `examples/${encodeURIComponent(model)}/`;
  const text = files.find((f) => /\.(md|txt)$/i.test(f));
  return {credits: text ? base + text : null,
    pictures: files.filter(isPicture).slice(0, MOST).map((f) => ({url: base + f,
      name: decodeURIComponent(f).replace(/\.\w+$/, '')}))};
}

// A button per picture; `choose` gets the picture.
export function showExamples(box, pictures, choose) {
  box.replaceChildren(...pictures.map((picture) => {
    const button = document.createElement('button'), image = document.createElement('img');
    button.type = 'button';
    button.setAttribute('aria-pressed', 'false');
    button.title = picture.name;
    image.src = picture.url;
    image.alt = '';
    button.setAttribute('aria-label', `Example ${picture.name}`);
    button.append(image);
    button.addEventListener('click', () => choose(picture));
    return button;
  }));
}

// Marks the chosen one; null: none.
export function markExample(box, picture) {
  for (const button of box.children)
    button.setAttribute('aria-pressed', String(!!picture && button.title === picture.name));
}
