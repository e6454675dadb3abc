// The page: wires the picture, the change and the answer to the service.

import * as client from './client.js';
import {Controls} from './controls.js';
import {prepared} from './picture.js';
import {blobBase64, curlLine, fromHash, toHash} from './replay.js';
import {clearReply, doText, showPreview, showReply} from './results.js';
import {Sketch} from './sketch.js';

const $ = (id) => document.getElementById(id);
const EXAMPLE_SIDE = 64; // models of larger images take too long for an example
const EXAMPLE_SEEDS = [5, 8, 12]; // whose pictures by the shipped models are clean

let model, controls, sampleSelect, job = null, running = false, canceling = false, examples = 0;
let usual = 1; // the strength that goes with sampler and steps
let image = null; // base64 of a chosen or sampled picture; null: the drawing counts
let last = null; // {request, reply} that is shown
const ANSWERS_MAX = 20;
const answers = new Map(); // link: {request, reply}, so that going back asks nobody again
const sketch = new Sketch($('sketch'), $('pen'), () => setImage(null));

// ---- the picture

function setImage(data, type = 'image/png') {
  image = data;
  $('picture').hidden = !data;
  if (data) {
    $('picture').src = `data:${type};base64,${data}`;
    sketch.clear();
  }
  $('hint').hidden = true;
}

function clearPicture() {
  sketch.clear();
  setImage(null);
  $('hint').hidden = false;
  say('Cleared.');
}

async function takeFile(file) {
  if (!file || !model) return;
  hideProblem();
  try {
    const {blob, inverted} = await prepared(file, imageVariable());
    setImage(await blobBase64(blob), blob.type);
    say(inverted ? `${file.name} chosen: dark on light, so it was inverted and centred.`
      : `${file.name} chosen.`);
  } catch {
    if (image) { // the one before must not pass for this one; a drawing cannot
      setImage(null);
      $('hint').hidden = false;
    }
    showProblem(new client.Problem({title: 'Not a picture',
      detail: `${file.name} is no picture that can be read; choose a PNG or JPEG file.`}));
  }
}

async function sampled(intervention, seed) {
  say('The model draws a picture …');
  const reply = await client.sample({model: model.name, intervention, options: {seed}});
  setImage(reply.samples[0].image);
}

async function drawSample() {
  hideProblem();
  $('draw-sample').disabled = true;
  try {
    await sampled(sampleSelect?.intervention(), Math.floor(Math.random() * 1e9));
    say('The model drew a picture.');
  } catch (problem) {
    showProblem(problem);
  }
  $('draw-sample').disabled = false;
}

// One click from nothing to an answer: a picture of one label, changed to another.
async function showExample() {
  if (running) return;
  hideProblem();
  $('example').disabled = true;
  try {
    const {variable, from, to} = controls.example(examples);
    await sampled({[variable]: from}, EXAMPLE_SEEDS[examples % EXAMPLE_SEEDS.length]);
    examples++;
    $('example').textContent = 'Show me another';
    controls.restore({[variable]: to});
    await run(await makeRequest());
  } catch (problem) {
    showProblem(problem);
  }
  $('example').disabled = false;
}

// ---- the change

const imageVariable = () => model.graph.variables.find((v) => v.name === model.graph.image);

async function makeRequest() {
  const variable = imageVariable();
  if (!image && sketch.empty)
    throw new client.Problem({title: 'No picture yet',
      detail: 'Draw one, choose a file, or let the model draw.'});
  const intervention = controls.intervention();
  if (Object.keys(intervention).length === 0)
    throw new client.Problem({title: 'No change chosen',
      detail: `Choose what the ${controls.variables[0].name} should be.`});
  const data = image ?? await blobBase64(await sketch.toBlob(variable.height, variable.width));
  return {model: model.name, image: data, intervention, options: {
    sampler: $('sampler').value, steps: Number($('steps').value),
    scale: $('auto').checked ? 'auto' : Number($('scale').value), seed: 0,
    return: ['factual', 'reconstruction', 'counterfactual', 'difference']}};
}

async function ask(event) {
  event.preventDefault();
  if (running) return;
  hideProblem();
  try {
    await run(await makeRequest());
  } catch (problem) {
    showProblem(problem);
  }
}

function setRunning(on) {
  running = on;
  canceling = false;
  $('run').disabled = on;
  $('cancel').hidden = !on;
  $('cancel').disabled = false;
  $('progress-row').hidden = !on;
  $('progress').value = 0;
  $('progress-text').textContent = '';
  $('results').setAttribute('aria-busy', String(on));
}

const PHASES = {abduct: 'Inferring the noise', reconstruct: 'Checking the reconstruction',
  predict: 'Predicting', score: 'Scoring', reverse: 'Going back'};

function onProgress(data) {
  if (canceling) return;
  const phase = PHASES[data.phase] ?? data.phase;
  $('progress').value = data.fraction ?? 0;
  const eta = data.eta_ms ? ` · ${(data.eta_ms / 1000).toFixed(1)} s left` : '';
  $('progress-text').textContent = `${Math.round(100 * data.fraction)} %${eta}`;
  if ($('status').textContent !== `${phase} …`) say(`${phase} …`);
}

// In one column the answer may lie below what is seen.
function reveal() {
  if ($('results').getBoundingClientRect().top < 0.7 * innerHeight) return;
  const still = matchMedia('(prefers-reduced-motion: reduce)').matches;
  $('results').scrollIntoView({behavior: still ? 'auto' : 'smooth', block: 'start'});
}

function show(request, reply) {
  last = {request, reply};
  showReply(reply, request);
  $('example').classList.remove('primary');
  $('curl').textContent = curlLine(request);
}

// A new answer is a new entry of the browser's history; one that a link asked for has its entry.
function remember(hash, answer) {
  answers.set(hash, answer);
  if (answers.size > ANSWERS_MAX) answers.delete(answers.keys().next().value);
  if (location.hash !== hash) history.pushState(null, '', hash);
}

async function run(request) {
  const source = $('picture').hidden ? $('sketch').toDataURL() : $('picture').src;
  setRunning(true);
  say('Waiting for a free worker …');
  try {
    const reply = await client.counterfactual(request, {
      accepted: (id) => {
        job = id;
        if (canceling) stop(id);
      },
      progress: onProgress,
      preview: (data) => showPreview(source, data.images),
    });
    show(request, reply);
    reveal();
    remember(toHash(request), last);
    const found = reply.counterfactuals.filter((c) => c.outcome === 'found').length;
    const count = reply.counterfactuals.length;
    say(count > 1 ? `Done: ${found} of ${count} found.`
      : `Done: ${doText(reply.counterfactuals[0].intervention)} ${found ? 'found' : 'not found'}.`);
  } finally {
    job = null;
    setRunning(false);
  }
}

function stop(id, keepalive = false) {
  client.cancel(id, keepalive).catch(() => { /* it has ended meanwhile */ });
}

// The stream of the job says when it has ended; before the job has a name the wish waits for it.
function cancelRun() {
  canceling = true;
  $('cancel').disabled = true;
  say('Canceling …');
  if (job) stop(job);
}

// ---- words

function say(text) {
  $('status').textContent = text;
}

// Back to the answer before, or to none.
function leavePreview() {
  if ($('answer').hidden || !$('answer').classList.contains('running')) return;
  if (last) show(last.request, last.reply);
  else noAnswer();
}

function noAnswer() {
  last = null;
  clearReply();
}

// What failed has no answer: the one before would pass for it. The way back in the browser's history
// leads to it.
function dropAnswer() {
  noAnswer();
  if (answers.has(location.hash)) leaveLink();
}

function leaveLink() {
  history.pushState(null, '', location.pathname + location.search);
}

function hideProblem() {
  $('problem').hidden = true;
}

// Asks for the key; what was refused is done again with it.
function askForKey(again) {
  $('key-form').hidden = false;
  $('key').focus();
  $('key-form').onsubmit = (event) => {
    event.preventDefault();
    client.useKey($('key').value);
    $('key-form').hidden = true;
    hideProblem();
    again().catch(showProblem);
  };
}

function showProblem(problem) {
  if (problem.code === 'unauthorized') askForKey(model ? async () => {} : start);
  if (problem.code === 'canceled') {
    leavePreview();
    say('Canceled.');
    return;
  }
  dropAnswer();
  const box = $('problem'), title = document.createElement('strong');
  title.textContent = `${problem.title ?? 'Error'}. `;
  box.replaceChildren(title, problem.message);
  const others = (problem.errors ?? []).filter((e) => e.detail !== problem.message);
  if (others.length) {
    const list = document.createElement('ul');
    for (const e of others) {
      const item = document.createElement('li');
      item.textContent = `${e.pointer}: ${e.detail}`;
      list.append(item);
    }
    box.append(list);
  }
  box.hidden = false;
  box.scrollIntoView({block: 'nearest'});
  say('');
}

async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    say(`${what} copied.`);
  } catch {
    $('curl-details').open = true;
    say(`This browser does not allow copying; ${what === 'Link' ? 'the link is in the address bar'
      : 'the line is shown below'}.`);
  }
}

// ---- start

// The strength that was calibrated for the chosen sampler and steps; else the model's default.
function usualScale() {
  const steps = Number($('steps').value);
  return (model.calibrations ?? []).find((c) => c.sampler === $('sampler').value &&
    c.steps === steps)?.scale ?? (Number(model.defaults?.scale) || 1);
}

// Other steps want another strength, unless the user has chosen one.
function followUsual() {
  const scale = usualScale();
  if (Number($('scale').value) === usual) {
    $('scale').max = Math.max($('scale').max, 4 * scale);
    $('scale').value = scale;
  }
  usual = scale;
  showScale();
}

function showScale() {
  $('scale').disabled = $('auto').checked;
  const value = Number($('scale').value);
  $('scale-value').textContent = $('auto').checked ? 'auto'
    : value.toFixed(2) + (value === usual ? ' (usual)' : '');
}

async function setModel(name) {
  model = await client.model(name);
  controls = new Controls($('variables'), model.graph);
  sampleSelect = controls.sampleSelect();
  $('sample-of').replaceChildren(...(sampleSelect ? [sampleSelect] : []));
  $('steps').value = model.defaults?.steps ?? 20;
  $('sampler').replaceChildren(...model.samplers.map((s) => new Option(s, s, false,
    s === model.defaults?.sampler)));
  usual = usualScale();
  $('scale').max = Math.max(4, 4 * usual);
  $('scale').value = usual;
  $('auto').checked = model.defaults?.scale === 'auto';
  showScale();
  $('example').hidden = imageVariable().height > EXAMPLE_SIDE || !controls.example(0);
  $('example').textContent = 'Show me an example';
  $('teaser').hidden = !model.graph.variables.some((v) => v.labels?.includes('5'));
  $('about').textContent = `Model ${model.name} ${model.version}, ${model.licence ?? ''}. ` +
    `${model.provenance ?? ''}.`;
  $('run').disabled = $('draw-sample').disabled = false;
}

// Another model by hand: what the one before drew and answered would be nonsense beside it.
async function chooseModel() {
  hideProblem();
  clearPicture();
  noAnswer();
  examples = 0;
  await setModel($('model').value);
  say('');
  if (location.hash) leaveLink();
}

function restore(request) {
  if (request.image) setImage(request.image.replace(/^data:[^,]*,/, ''));
  controls.restore(request.intervention);
  const o = request.options ?? {};
  if (o.steps) $('steps').value = o.steps;
  if (o.sampler) $('sampler').value = o.sampler;
  if (o.scale !== undefined) $('auto').checked = o.scale === 'auto';
  followUsual();
  if (typeof o.scale === 'number') {
    $('scale').max = Math.max($('scale').max, o.scale);
    $('scale').value = o.scale;
  }
  showScale();
}

async function start() {
  const list = await client.models();
  const names = list.models.map((m) => m.name);
  $('model').replaceChildren(...names.map((n) => new Option(n, n)));
  $('model-row').hidden = names.length < 2;
  await follow();
}

// Shows what the address asks for: at the start, after back and forward, and of a pasted link.
async function follow() {
  if (running) return;
  hideProblem();
  const request = fromHash(location.hash), known = answers.get(location.hash);
  const names = [...$('model').options].map((o) => o.value);
  const name = names.includes(request?.model) ? request.model : model?.name ?? names[0];
  if (model?.name !== name) {
    $('model').value = name;
    await setModel(name);
  }
  say('');
  if (!request) {
    noAnswer();
    return;
  }
  restore(request);
  if (known) show(known.request, known.reply);
  else await run(request);
}

function wire() {
  $('ask').addEventListener('submit', ask);
  $('cancel').addEventListener('click', cancelRun);
  $('clear').addEventListener('click', clearPicture);
  $('choose').addEventListener('click', () => $('file').click());
  $('file').addEventListener('change', () => {
    takeFile($('file').files[0]);
    $('file').value = '';
  });
  $('example').addEventListener('click', showExample);
  $('draw-sample').addEventListener('click', drawSample);
  for (const id of ['auto', 'scale']) $(id).addEventListener('input', showScale);
  for (const id of ['steps', 'sampler']) $(id).addEventListener('input', followUsual);
  $('model').addEventListener('change', () => chooseModel().catch(showProblem));
  $('copy-link').addEventListener('click', () =>
    copy(location.href.split('#')[0] + toHash(last.request), 'Link'));
  $('copy-curl').addEventListener('click', () => copy(curlLine(last.request), 'curl line'));
  const drop = $('drop');
  for (const name of ['dragenter', 'dragover'])
    drop.addEventListener(name, () => drop.classList.add('over'));
  for (const name of ['dragleave', 'drop'])
    drop.addEventListener(name, () => drop.classList.remove('over'));
  // Anywhere on the page: a file dropped beside the paper must not replace the page.
  window.addEventListener('dragover', (e) => e.preventDefault());
  window.addEventListener('drop', (e) => {
    e.preventDefault();
    takeFile(e.dataTransfer.files[0]);
  });
  window.addEventListener('paste', (e) => takeFile(e.clipboardData.files[0]));
  window.addEventListener('popstate', () => follow().catch(showProblem));
  window.addEventListener('pagehide', () => { if (job) stop(job, true); });
}

wire();
start().catch(showProblem);
