// Shows a reply: figures, fan, scores with a word on what each means.

const png = (data) => `data:image/png;base64,${data}`;
const $ = (id) => document.getElementById(id);
const percent = (v) => `${(100 * v).toFixed(v > 0.001 && v < 0.999 ? 1 : 0)} %`;

export function doText(intervention) {
  return Object.entries(intervention)
    .map(([name, v]) => `${name} = ${typeof v === 'object' ? JSON.stringify(v) : v}`).join(', ');
}

function figure(caption, source, alt, file) {
  const f = document.createElement('figure');
  const image = document.createElement('img');
  image.src = source;
  image.alt = alt;
  const text = document.createElement('figcaption');
  text.append(caption);
  if (file) {
    const link = document.createElement('a');
    link.href = source;
    link.download = file;
    link.textContent = 'PNG';
    link.setAttribute('aria-label', `Download ${caption.toLowerCase()} as PNG`);
    text.append(link);
  }
  f.append(image, text);
  return f;
}

function observedText(reply) {
  return Object.entries(reply.observed || {}).map(([name, o]) => {
    const p = o.probabilities?.[o.value];
    return `${name} ${o.value}${p === undefined ? '' : ` (${percent(p)})`}`;
  }).join(', ');
}

// [name, value, word] of what the reply holds; scores the model has no networks for are left out.
function scoreRows(reply, c) {
  const s = c.scores, rows = [], target = doText(c.intervention);
  const add = (value, name, text, word) => {
    if (value !== null && value !== undefined) rows.push([name, text, word]);
  };
  add(s.probability?.after, `Probability of ${target}`,
    `${percent(s.probability?.before ?? 0)} → ${percent(s.probability?.after ?? 0)}`,
    'What the model’s own predictor says before and after.');
  add(s.oracle_label, 'A second opinion', String(s.oracle_label),
    'What an independent network, which took no part, reads.');
  add(s.l1, 'Mean change', `${s.l1?.toFixed(1)} of 255`,
    'Smaller means that more of the picture was kept.');
  add(s.changed_share, 'Pixels changed', percent(s.changed_share ?? 0),
    'Share of pixels that moved by more than 5 % of the range.');
  add(s.composition, 'Reconstruction error', `${s.composition?.toFixed(2)} of 255`,
    'What is lost when nothing is changed; near 0 is right.');
  add(s.reversibility, 'Way back', `${s.reversibility?.toFixed(1)} of 255`,
    'Difference to the picture after changing it back.');
  add(s.cld, 'Latent divergence (CLD)', s.cld?.toFixed(3),
    'Between 0.69 and 1.69; lower is nearer to the picture and more like the target.');
  add(s.im1, 'Target likeness (IM1)', s.im1?.toFixed(2),
    'Below 1: nearer to the target’s kind than to the old one.');
  add(s.im2, 'Realism (IM2)', s.im2?.toPrecision(2), 'Lower means more like real pictures.');
  add(c.scale, 'Strength used', c.scale?.toFixed(2),
    c.predictions > 1 ? `Found by a search that took ${c.predictions} tries.`
      : 'How hard the change was pushed.');
  const t = reply.timing_ms || {};
  const total = Object.values(t).reduce((a, b) => a + (b || 0), 0);
  add(total, 'Time', `${Math.round(total)} ms`, 'Waiting, inferring, predicting and scoring.');
  return rows;
}

function showScores(reply, c) {
  $('scores').replaceChildren(...scoreRows(reply, c).map(([name, value, word]) => {
    const row = document.createElement('div');
    for (const [tag, cls, text] of [['dt', '', name], ['dd', 'value', value], ['dd', 'word', word]]) {
      const e = document.createElement(tag);
      e.className = cls;
      e.textContent = text;
      row.append(e);
    }
    return row;
  }));
}

// The independent network reads something else than the one label that was asked for.
function doubted(c) {
  const values = Object.values(c.intervention), o = c.scores.oracle_label;
  return values.length === 1 && o !== null && o !== undefined && String(o) !== String(values[0]);
}

function showOutcome(reply, c) {
  const mark = document.createElement('strong');
  const found = c.outcome === 'found';
  mark.className = found ? 'good' : 'bad';
  mark.textContent = found ? `Found: ${doText(c.intervention)}. ` : 'No counterfactual found. ';
  const parts = [mark];
  if (!found) parts.push(`${c.detail} `);
  parts.push(`The model saw ${observedText(reply)} in the picture.`);
  if (found && doubted(c))
    parts.push(' The second opinion does not see it yet: try a greater strength.');
  if (reply.abduction && reply.abduction.verdict !== 'good')
    parts.push(` ${reply.abduction.verdict_detail}`);
  $('outcome').replaceChildren(...parts);
}

function showOne(reply, request, index) {
  const c = reply.counterfactuals[index], name = doText(c.intervention);
  const slug = name.replace(/[^A-Za-z0-9]+/g, '-');
  showOutcome(reply, c);
  const source = reply.factual ? png(reply.factual) : png(request.image);
  const figures = [figure('Factual', source, 'The picture that was given', 'factual.png')];
  if (reply.reconstruction)
    figures.push(figure('Reconstruction', png(reply.reconstruction),
      'The picture as the model gives it back unchanged', 'reconstruction.png'));
  if (c.image)
    figures.push(figure('Counterfactual', png(c.image), `The picture under ${name}`,
      `counterfactual-${slug}.png`));
  if (c.difference) {
    const map = figure('Difference', png(c.difference),
      'Signed difference: red was added, blue was taken away', `difference-${slug}.png`);
    map.className = 'map';
    figures.push(map);
  }
  $('figures').replaceChildren(...figures);
  showScores(reply, c);
  for (const [i, button] of [...$('fan').children].entries())
    button.setAttribute('aria-pressed', String(i === index));
}

export function showPreview(source, images) {
  $('empty').hidden = true;
  $('answer').hidden = false;
  $('answer').classList.add('running');
  $('fan').hidden = true;
  $('outcome').textContent = 'Working …';
  const shown = images.slice(0, 3).map((data) => {
    const f = figure('Preview', png(data), 'Preview of the counterfactual');
    f.className = 'pending';
    return f;
  });
  $('figures').replaceChildren(figure('Factual', source, 'The picture that was given'), ...shown);
  $('scores').replaceChildren();
}

export function showReply(reply, request) {
  $('empty').hidden = true;
  $('answer').hidden = false;
  $('answer').classList.remove('running');
  const many = reply.counterfactuals.length > 1;
  $('fan').hidden = !many;
  $('fan').replaceChildren(...(many ? reply.counterfactuals : []).map((c, i) => {
    const button = document.createElement('button');
    button.type = 'button';
    const image = document.createElement('img');
    image.src = png(c.image);
    image.alt = '';
    const [mark, words] = c.outcome !== 'found' ? ['–', 'not found']
      : doubted(c) ? ['?', 'found, but the second opinion differs'] : ['✓', 'found'];
    const text = document.createElement('span');
    text.textContent = `${Object.values(c.intervention).join(', ')} ${mark}`;
    button.title = words;
    button.setAttribute('aria-label', `${doText(c.intervention)}, ${words}`);
    button.append(image, text);
    button.addEventListener('click', () => showOne(reply, request, i));
    return button;
  }));
  showOne(reply, request, 0);
}
