// Shows a reply: figures, fan, scores with a word on what each means.

import {plain} from './numbers.js';

const png = (data) => `data:image/png;base64,${data}`;
const $ = (id) => document.getElementById(id);
const percent = (v) => `${(100 * v).toFixed(v > 0.001 && v < 0.999 ? 1 : 0)} %`;

const short = (v) => (typeof v === 'number' ? Number(v.toPrecision(3)) : v);
const valueText = (v) => (v?.hold ? 'held' : v?.shift !== undefined ? `shifted by ${short(v.shift)}`
  : short(v?.do ?? v));

export function doText(intervention) {
  return Object.entries(intervention).map(([name, v]) => `${name} = ${valueText(v)}`).join(', ');
}

const valuesText = (intervention) => Object.values(intervention).map(valueText).join(', ');

// A label speaks for itself; a number, or one of several values, needs its name.
function asText(intervention) {
  const values = Object.values(intervention);
  return values.length === 1 && typeof values[0] === 'string' ? values[0] : doText(intervention);
}

// caption: words for everybody; term: what the field calls it.
function figure(caption, term, source, alt, file) {
  const f = document.createElement('figure');
  const image = document.createElement('img');
  image.src = source;
  image.alt = alt;
  const text = document.createElement('figcaption'), name = document.createElement('strong');
  name.textContent = caption;
  text.append(name);
  if (file) {
    const link = document.createElement('a');
    link.href = source;
    link.download = file;
    link.textContent = 'PNG';
    link.setAttribute('aria-label', `Download “${caption}” as PNG`);
    text.append(link);
  }
  const word = document.createElement('span');
  word.append(...[term].flat());
  text.append(word);
  f.append(image, text);
  return f;
}

function observedText(reply) {
  return Object.entries(reply.observed || {}).map(([name, o]) => {
    const p = o.probabilities?.[o.value];
    return `${name} ${plain(o.value)}${p === undefined ? '' : ` (${Math.round(100 * p)} %)`}`;
  }).join(', ');
}

// "intensity 160 → 187" of variables that were not set and have moved, or undefined.
function movedBy(reply, c) {
  const moved = Object.entries(c.propagated ?? {}).filter(([name, now]) => {
    const before = reply.observed?.[name]?.value;
    return c.intervention[name] === undefined && now !== null && before !== undefined &&
      now !== before;
  });
  return moved.map(([name, now]) => `${name} ${plain(reply.observed[name].value)} → ${plain(now)}`)
    .join(', ') || undefined;
}

// [name, value, word] of what the reply holds, first for everybody, then the rest; scores the model
// has no networks for are left out.
function scoreRows(reply, c) {
  const s = c.scores, first = [], rest = [];
  const add = (rows, value, name, text, word) => {
    if (value !== null && value !== undefined) rows.push([name, text, word]);
  };
  add(first, s.probability?.after, `Seen as ${asText(c.intervention)}`,
    `${percent(s.probability?.before ?? 0)} → ${percent(s.probability?.after ?? 0)}`,
    'How sure the model is, before and after.');
  add(first, s.oracle_label, 'Outside opinion', s.oracle_label,
    'What networks that took no part in anything see in the answer.');
  const moved = movedBy(reply, c);
  add(first, moved, 'Followed', moved,
    'Other variables that moved with what was set; each keeps what is its own.');
  add(first, s.changed_share, 'Changed', `${percent(s.changed_share ?? 0)} of the pixels`,
    'The rest is the picture as it was, within 5 % of the range.');
  add(first, s.l1, 'Mean change', `${s.l1?.toFixed(1)} of 255`,
    'Over all pixels; smaller means that more was kept.');
  add(rest, s.composition, 'Reconstruction error', `${s.composition?.toFixed(2)} of 255`,
    'What is lost when nothing is changed; 0 is perfect.');
  add(rest, s.reversibility, 'Way back', `${s.reversibility?.toFixed(1)} of 255`,
    'Difference to the picture after changing it back.');
  add(rest, s.cld, 'Latent divergence (CLD)', s.cld?.toFixed(3),
    'Between 0.69 and 1.69; lower is nearer to the picture and more like the target.');
  add(rest, s.im1, 'Target likeness (IM1)', s.im1?.toFixed(2),
    'Below 1: nearer to the target’s kind than to the old one.');
  add(rest, s.im2, 'Realism (IM2)', s.im2?.toPrecision(2), 'Lower means more like real pictures.');
  add(rest, c.scale, 'Guidance scale', c.scale?.toFixed(2),
    c.predictions > 1 ? `Found by a search that took ${c.predictions} tries.`
      : 'How hard the change was pushed.');
  const t = reply.timing_ms || {};
  const total = Object.values(t).reduce((a, b) => a + (b || 0), 0);
  add(rest, total, 'Time', `${Math.round(total)} ms`, 'Waiting, inferring, predicting and scoring.');
  return [first, rest];
}

function scoreList(list, rows) {
  list.replaceChildren(...rows.map(([name, value, word]) => {
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

const WORDS = {found: ['good', 'Found'], contested: ['warn', 'Contested'], 'not-found': ['bad', 'Not found']};
const VERDICTS = {
  unfamiliar: ['Unfamiliar picture: an answer means little. ',
    'The model knows nothing like it: choose a picture like the examples, or another model. '],
  inaccurate: ['Inaccurate: the model cannot give this picture back unchanged. ', 'Take more steps. '],
};

// What an outcome means and what to do about it, in the page's own words; auto: the strength was searched.
function explanation(c, verdict, auto) {
  const best = 'This picture is the best attempt, not an answer. ';
  if (verdict !== 'good') return c.outcome === 'not-found' ? best : '';
  if (c.outcome === 'contested') return `${c.detail} Try “more convincing” or another target. `;
  if (c.outcome !== 'not-found') return '';
  return auto ? `Not even the strongest change makes the model see the target. ${best}Try another target. `
    : `The change is too weak for the model to see the target. ${best}Move the slider toward “more convincing”, ` +
      'or let it “find the least that convinces”. ';
}

function strong(cls, text) {
  const mark = document.createElement('strong');
  mark.className = cls;
  mark.textContent = text;
  return mark;
}

function showOutcome(reply, request, c) {
  const [cls, word] = WORDS[c.outcome] ?? ['warn', c.outcome];
  const verdict = reply.abduction?.verdict ?? 'good', parts = [];
  const [told, advice] = VERDICTS[verdict] ?? [`${verdict}: ${reply.abduction?.verdict_detail} `, ''];
  if (verdict !== 'good') parts.push(strong('warn', told));
  parts.push(strong(verdict === 'good' ? cls : 'warn', `${word}: ${doText(c.intervention)}. `));
  parts.push(explanation(c, verdict, request.options?.scale === 'auto'));
  if (verdict !== 'good') parts.push(advice);
  if (reply.abduction?.inverted) parts.push('Dark ink on light paper was inverted. ');
  parts.push(`The model saw ${observedText(reply)} in the picture.`);
  $('outcome').replaceChildren(...parts);
}

function colours() {
  const word = (cls, text) => {
    const e = document.createElement('span');
    e.className = cls;
    e.textContent = text;
    return e;
  };
  return [word('added', 'red'), ' added, ', word('removed', 'blue'), ' taken away'];
}

function showOne(reply, request, index) {
  const c = reply.counterfactuals[index], name = doText(c.intervention);
  const slug = name.replace(/[^A-Za-z0-9]+/g, '-');
  showOutcome(reply, request, c);
  const source = reply.factual ? png(reply.factual) : png(request.image);
  current = index;
  const figures = [figure('As it is', 'the factual picture', source, 'The picture that was given',
    'factual.png')];
  if (c.image) {
    const answer = figure(`As ${asText(c.intervention)}`,
      'the counterfactual', png(c.image),
      `The picture under ${name}`, `counterfactual-${slug}.png`);
    answer.className = 'main';
    figures.push(answer);
  }
  if (c.difference) {
    const map = figure('Difference', colours(), png(c.difference),
      'Signed difference: red was added, blue was taken away', `difference-${slug}.png`);
    map.className = 'map';
    figures.push(map);
  }
  if (c.uncertainty) {
    const map = figure('Uncertainty', 'white depends on the strength', png(c.uncertainty),
      'How much each pixel differs between half and twice the strength', `uncertainty-${slug}.png`);
    map.className = 'map';
    figures.push(map);
  }
  $('figures').replaceChildren(...figures);
  $('check').replaceChildren(...(reply.reconstruction ? [figure('Unchanged',
    'the reconstruction: what comes back when nothing is changed; it should be your picture',
    png(reply.reconstruction), 'The picture as the model gives it back unchanged',
    'reconstruction.png')] : []));
  const [first, rest] = scoreRows(reply, c);
  scoreList($('scores'), first);
  scoreList($('more-scores'), rest);
  for (const [i, button] of [...$('fan').children].entries())
    button.setAttribute('aria-pressed', String(i === index));
}

// At once when a new question is asked: the answer before is marked as no answer to it.
export function markPending() {
  if ($('answer').hidden) return;
  $('answer').classList.add('running');
  $('judged').hidden = true;
  $('outcome').textContent = 'Working …';
}

// Where a new answer takes longer: the question's picture, the preview when there is one, and no
// picture of an earlier answer.
export function showPreview(source, images = []) {
  $('empty').hidden = $('judged').hidden = $('fan').hidden = true;
  $('answer').hidden = false;
  $('answer').classList.add('running');
  $('outcome').textContent = 'Working …';
  const frame = document.createElement('figure'), blank = document.createElement('div');
  blank.className = 'blank';
  frame.append(blank);
  const preview = images.length ? figure('Preview', '', png(images[0]),
    'Preview of the counterfactual') : frame;
  preview.className = 'main pending';
  $('figures').replaceChildren(figure('As it is', '', source, 'The picture that was given'), preview);
}

export function clearReply() {
  $('answer').hidden = $('judged').hidden = true;
  $('answer').classList.remove('running');
  $('empty').hidden = false;
  for (const id of ['outcome', 'fan', 'figures', 'scores', 'more-scores', 'check'])
    $(id).replaceChildren();
}

let current = 0; // of the answers of a fan

// onShow(answer): one of the reply's answers is shown.
export function showReply(reply, request, onShow = () => {}) {
  $('empty').hidden = true;
  $('answer').hidden = $('judged').hidden = false;
  $('answer').classList.remove('running');
  const answers = reply.counterfactuals, many = answers.length > 1;
  const select = (i) => {
    showOne(reply, request, i);
    onShow(answers[i]);
  };
  $('fan').hidden = !many;
  $('fan').classList.toggle('strip', !!request.interventions);
  const labels = answers.map((c) => valuesText(varied(c.intervention, answers)));
  $('fan').classList.toggle('short', labels.every((label) => label.length < 3));
  $('fan').replaceChildren(...(many ? answers : []).map((c, i) => fanButton(c, labels[i], () => select(i))));
  select(current < answers.length ? current : 0);
}

const MARKS = {found: ['✓', 'found'], contested: ['?', 'contested: not all agree'],
  'not-found': ['–', 'not found']};

// The part of an intervention in which the answers differ.
function varied(intervention, answers) {
  return Object.fromEntries(Object.entries(intervention).filter(([name, value]) =>
    answers.some((c) => valueText(c.intervention[name]) !== valueText(value))));
}

function fanButton(c, label, select) {
  const button = document.createElement('button');
  button.type = 'button';
  const image = document.createElement('img');
  image.src = png(c.image);
  image.alt = '';
  const [mark, words] = MARKS[c.outcome] ?? ['?', c.outcome];
  const text = document.createElement('span');
  text.textContent = `${label} ${mark}`;
  button.title = words;
  button.setAttribute('aria-label', `${doText(c.intervention)}, ${words}`);
  button.append(image, text);
  button.addEventListener('click', select);
  return button;
}
