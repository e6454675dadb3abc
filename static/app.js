// The page: wires the picture, the change and the answer to the service.

import * as client from './client.js';
import {Controls} from './controls.js';
import {drawGraph} from './graph.js';
import {examplesOf, markExample, showExamples} from './examples.js';
import {prepared} from './picture.js';
import {blobBase64, curlLine, fromHash, toHash} from './replay.js';
import {clearReply, doText, markPending, showPreview, showReply} from './results.js';
import {Scale} from './scale.js';
import {Sketch} from './sketch.js';

const $ = (id) => document.getElementById(id);
const INSTANT_SIDE = 64; // models of larger images take too long to answer every click
const PEN_UP_MS = 350; // a drawing is asked about when the pen has rested for so long
const STALE_MS = 250; // an earlier answer, dimmed, stands at most so long beside a new question

let model, controls, sampleSelect, pictures = [], examples = 0;
let current = null; // the run that is under way: {controller, job, live}
let question = 0; // number of the newest question: making a request takes time, too
let again = false; // a slider has moved since the live run under way began
let image = null; // base64 of a chosen or sampled picture; null: the drawing counts
let last = null; // {request, reply} that is shown
let penTimer = 0;
const ANSWERS_MAX = 20;
const answers = new Map(); // link: {request, reply}, so that going back asks nobody again
const sketch = new Sketch($('sketch'), $('pen'), drawn);
const scale = new Scale(changed);

const imageVariable = () => model.graph.variables.find((v) => v.name === model.graph.image);
const instant = () => Math.max(imageVariable().height, imageVariable().width) <= INSTANT_SIDE;
// A pen draws one grey line: fit for single characters, not for garments or photographs.
const drawable = () => imageVariable().channels === 1 &&
  model.graph.variables.some((v) => v.labels?.every((label) => label.length === 1));

// ---- the picture

function setImage(data, type = 'image/png', example = null) {
  image = data;
  $('picture').hidden = !data;
  markExample($('examples'), example);
  controls?.observe(null);
  if (data) {
    $('picture').src = `data:${type};base64,${data}`;
    sketch.clear();
  }
  $('hint').hidden = true;
}

// The pen has set a stroke: a new picture, asked about once it rests.
function drawn() {
  setImage(null);
  stopRun();
  noAnswer();
  clearTimeout(penTimer);
  const rest = () => {
    if (sketch.last || sketch.pen.down) penTimer = setTimeout(rest, PEN_UP_MS);
    else changed(true);
  };
  penTimer = setTimeout(rest, PEN_UP_MS);
}

function clearPicture() {
  clearTimeout(penTimer);
  stopRun();
  sketch.clear();
  setImage(null);
  noAnswer();
  $('hint').hidden = false;
  say('Cleared.');
}

// A new picture is answered at once where a change is chosen; the answer before goes in any case.
function newPicture(words) {
  noAnswer();
  say(words);
  if (hasChange()) return changed(false);
  return null;
}

async function takeFile(file) {
  if (!file || !model) return;
  hideProblem();
  try {
    const blob = await prepared(file);
    setImage(await blobBase64(blob), blob.type);
    newPicture(`${file.name} chosen.`);
  } catch {
    if (image) { // the one before must not pass for this one; a drawing cannot
      setImage(null);
      $('hint').hidden = false;
    }
    showProblem(new client.Problem({title: 'Not a picture', code: 'not-an-image',
      detail: `${file.name} is no picture that can be read.`}));
  }
}

async function takeExample(picture) {
  const reply = await fetch(picture.url);
  if (!reply.ok) throw new client.Problem({title: 'No picture', detail: `The example ${
    picture.name} could not be fetched (HTTP ${reply.status}).`});
  const blob = await reply.blob();
  setImage(await blobBase64(blob), blob.type, picture);
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
    newPicture('The model drew a picture.');
  } catch (problem) {
    showProblem(problem);
  }
  $('draw-sample').disabled = false;
}

// An example picture, changed to another label. At the start it is shown unasked, and is no entry
// of the browser's history.
async function showExample(history = true) {
  const {variable, from, to} = controls.example(examples);
  const picture = pictures.find((p) => p.name === from) ?? pictures[examples % pictures.length];
  hideProblem();
  try {
    await takeExample(picture);
    controls.restore({[variable]: to});
    examples++;
    await ask({history: history ? 'push' : 'none'});
  } catch (problem) {
    showProblem(problem);
  }
}

// ---- the change

const hasChange = () => Object.keys(controls.intervention()).length > 0;
const hasPicture = () => image || !sketch.empty;

async function makeRequest() {
  const variable = imageVariable();
  if (!hasPicture())
    throw new client.Problem({title: 'No picture yet',
      detail: 'Choose an example or a file, or draw one.'});
  const question = controls.question();
  if (!hasChange())
    throw new client.Problem({title: 'No change chosen',
      detail: `Choose what the ${controls.variables[0].name} should be.`});
  const data = image ?? await blobBase64(await sketch.toBlob(variable.height, variable.width));
  return {model: model.name, image: data, ...question, options: {
    sampler: $('sampler').value, steps: Number($('steps').value), scale: scale.value, seed: 0,
    return: ['factual', 'reconstruction', 'counterfactual', 'difference',
      ...($('uncertain').checked ? ['uncertainty'] : [])]}};
}

// The user has changed the question. Small models answer at once; of a large one the answer before
// goes, and the button asks. live: the newest of many, such as a slider's: entries of the browser's
// history are not made of each.
function changed(live) {
  if (!model) return null;
  showGraph();
  if (!hasPicture() || !hasChange()) {
    stopRun();
    dropAnswer();
    say(hasPicture() ? `Choose what the ${controls.variables[0].name} should be.`
      : 'Choose a picture first.');
    return null;
  }
  if (!instant()) {
    stopRun();
    noAnswer();
    say('The question has changed: press “Show the counterfactual”.');
    return null;
  }
  if (live && current?.live) {
    again = true;
    return null;
  }
  return ask({history: live ? 'replace' : 'push', live});
}

async function ask({history = 'push', live = false} = {}) {
  hideProblem();
  const mine = ++question;
  try {
    const request = await makeRequest();
    if (mine === question) await run(request, history, live);
  } catch (problem) {
    showProblem(problem);
  }
}

function setRunning(on) {
  $('cancel').hidden = true;
  $('cancel').disabled = false;
  $('progress-row').hidden = true;
  $('progress').value = 0;
  $('progress-text').textContent = '';
  $('results').setAttribute('aria-busy', String(on));
}

const PHASES = {abduct: 'Inferring the noise', reconstruct: 'Checking the reconstruction',
  predict: 'Predicting', score: 'Scoring', reverse: 'Going back'};

function onProgress(data) {
  const phase = PHASES[data.phase] ?? data.phase;
  $('progress').value = data.fraction ?? 0;
  const eta = data.eta_ms ? ` · ${(data.eta_ms / 1000).toFixed(1)} s left` : '';
  $('progress-text').textContent = `${phase}: ${Math.round(100 * data.fraction)} %${eta}`;
  if ($('status').textContent !== `${phase} …`) say(`${phase} …`);
}

// The graph with what the variables are under the intervention; null: as far as is known.
function showGraph(answer = null) {
  const graph = model.graph, values = {};
  $('graph').hidden = graph.variables.length < 3;
  for (const v of graph.variables)
    values[v.name] = answer?.propagated?.[v.name] ?? last?.reply.observed?.[v.name]?.value;
  drawGraph($('graph-drawing'), graph, controls.intervention(), values);
}

function show(request, reply) {
  last = {request, reply};
  showReply(reply, request, (answer) => {
    scale.found(answer.scale);
    controls.observe(reply.observed, answer.propagated);
    showGraph(answer);
  });
  $('curl').textContent = curlLine(request);
}

// A new answer is a new entry of the browser's history; one that a link asked for has its entry.
function remember(hash, answer, history) {
  answers.set(hash, answer);
  if (answers.size > ANSWERS_MAX) answers.delete(answers.keys().next().value);
  if (location.hash === hash || history === 'none') return;
  if (history === 'push') window.history.pushState(null, '', hash);
  else window.history.replaceState(null, '', hash);
}

function stopRun() {
  const run = current;
  question++;
  again = false;
  if (!run) return;
  current = null;
  run.controller.abort();
  setRunning(false);
}

async function run(request, history, live = false) {
  stopRun();
  const mine = current = {controller: new AbortController(), job: null, live};
  const source = $('picture').hidden ? $('sketch').toDataURL() : $('picture').src;
  setRunning(true);
  markPending();
  const late = setTimeout(() => {
    if (current !== mine) return;
    showPreview(source);
    $('cancel').hidden = false;
    say('Working …');
  }, STALE_MS);
  try {
    const reply = await client.counterfactual(request, {
      signal: mine.controller.signal,
      accepted: (id) => {
        mine.job = id;
        if (current === mine) $('progress-row').hidden = false;
      },
      progress: (data) => current === mine && onProgress(data),
      preview: (data) => current === mine && showPreview(source, data.images),
    });
    if (current !== mine) return;
    show(request, reply);
    remember(toHash(request), last, history);
    sayDone(reply.counterfactuals);
  } catch (problem) {
    if (current === mine) throw problem; // else another question has taken its place
  } finally {
    clearTimeout(late);
    if (current === mine) {
      current = null;
      setRunning(false);
    }
  }
  if (again && !current) {
    again = false;
    changed(true);
  }
}

const SAID = {found: 'found', contested: 'contested', 'not-found': 'not found'};

function sayDone(list) {
  const found = list.filter((c) => c.outcome === 'found').length;
  say(list.length > 1 ? `Done: ${found} of ${list.length} found.`
    : `Done: ${doText(list[0].intervention)} ${SAID[list[0].outcome] ?? list[0].outcome}.`);
}

function cancelRun() {
  stopRun();
  leavePreview();
  say('Canceled.');
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
  controls?.observe(null);
  if (model) showGraph();
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

// What to do next, where the service's own words do not say it.
const NEXT = {
  'no-connection': 'If it was stopped, start it again (make run, or diffscm serve). The picture ' +
    'and the change stay as they are.',
  'not-an-image': 'Choose a PNG or JPEG file.',
  'bad-link': 'Ask for the link anew, or choose a picture and a change here.',
  deadline: 'Take fewer steps, or try again when the service is less busy.',
};
const AGAIN = new Set(['no-connection', 'queue-full', 'loading', 'draining', 'deadline', 'internal']);

function showProblem(problem) {
  if (problem.code === 'unauthorized') askForKey(model ? async () => {} : start);
  if (problem.code === 'canceled') {
    leavePreview();
    say('Canceled.');
    return;
  }
  stopRun();
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
  const help = document.createElement('p');
  help.append(NEXT[problem.code] ?? '');
  if (help.textContent) box.append(help);
  if (AGAIN.has(problem.code)) {
    const button = document.createElement('button');
    button.type = 'button';
    button.id = 'again';
    button.textContent = 'Try again';
    button.addEventListener('click', () => {
      hideProblem();
      if (model) ask();
      else start().catch(showProblem);
    });
    box.append(button);
  }
  box.hidden = false;
  box.scrollIntoView({block: 'nearest'});
  say('');
}

async function copy(text, what, button) {
  try {
    await navigator.clipboard.writeText(text);
    say(`${what} copied.`);
    const words = button.dataset.words ??= button.textContent;
    button.textContent = 'Copied';
    setTimeout(() => { button.textContent = words; }, 2000);
  } catch {
    $('curl-details').open = true;
    say(`This browser does not allow copying; ${what === 'Link' ? 'the link is in the address bar'
      : 'the line is shown below'}.`);
  }
}

// ---- start

// The scale that was calibrated for the chosen sampler and steps; else the model's default.
function usualScale() {
  const steps = Number($('steps').value);
  return (model.calibrations ?? []).find((c) => c.sampler === $('sampler').value &&
    c.steps === steps)?.scale ?? (Number(model.defaults?.scale) || 1);
}

function followUsual() {
  scale.follow(usualScale());
}

// Texts name the model's own variables.
function showWords() {
  const names = model.graph.variables.filter((v) => v.kind !== 'image').map((v) => v.name);
  const list = names.length > 1 ? `${names.slice(0, -1).join(', ')} or ${names.at(-1)}` : names[0];
  $('lead').textContent = `Change the ${list} of a picture, and see what the same picture would ` +
    'have been.';
  for (const e of document.querySelectorAll('.cause')) e.textContent = list;
  const pad = drawable();
  $('sketch').hidden = !pad;
  $('hint').textContent = pad ? 'Draw here' : 'No picture yet';
  $('pad-help').textContent = pad ? 'Draw on the black square, or choose, drop or paste a picture.'
    : pictures.length ? 'Choose an example or a file, or drop or paste a picture.'
      : 'This model comes without examples: choose, drop or paste a picture, or let the model draw one.';
  $('warning').hidden = !model.warning;
  $('warning').textContent = model.warning ?? '';
  const quality = model.quality ?? {};
  $('poor').hidden = !quality.poor;
  $('poor').textContent = quality.poor ? 'By its own measurements this model is poor: ' +
    `${quality.poor_because ?? 'no reason is told'}. What would help: ${quality.would_help ?? 'nothing is told'}.` : '';
  $('about').textContent = `Model ${model.name} ${model.version}, ${model.licence ?? ''}. ` +
    `${model.provenance ?? ''}.`;
}

async function setModel(name) {
  const next = await client.model(name), found = await examplesOf(name);
  model = next;
  pictures = found.pictures;
  controls = new Controls($('variables'), model.graph, changed);
  sampleSelect = controls.sampleSelect();
  $('sample-of').replaceChildren(...(sampleSelect ? [sampleSelect] : []));
  $('steps').value = model.defaults?.steps ?? 20;
  $('sampler').replaceChildren(...model.samplers.map((s) => new Option(s, s, false,
    s === model.defaults?.sampler)));
  scale.usual = scale.exact = usualScale();
  scale.value = model.defaults?.scale === 'auto' ? 'auto' : scale.exact;
  showExamples($('examples'), pictures, (picture) => {
    hideProblem();
    takeExample(picture).then(() => newPicture(`Example ${picture.name} chosen.`))
      .catch(showProblem);
  });
  $('examples-row').hidden = pictures.length === 0;
  $('invent').open = pictures.length === 0;
  $('credits').hidden = !found.credits;
  if (found.credits) $('credits').href = found.credits;
  $('example').hidden = !instant() || !pictures.length || !controls.example(0);
  $('run').hidden = instant();
  $('run').disabled = $('draw-sample').disabled = false;
  showGraph();
  showWords();
}

// Another model by hand: what the one before drew and answered would be nonsense beside it.
async function chooseModel() {
  hideProblem();
  clearPicture();
  examples = 0;
  await setModel($('model').value);
  say('');
  if (location.hash) leaveLink();
  if (!$('example').hidden) await showExample(false);
}

function restore(request) {
  if (request.image) setImage(request.image.replace(/^data:[^,]*,/, ''));
  controls.restore(request.intervention, request.interventions);
  const o = request.options ?? {};
  if (o.steps) $('steps').value = o.steps;
  if (o.sampler) $('sampler').value = o.sampler;
  $('uncertain').checked = Boolean(o.return?.includes('uncertainty'));
  followUsual();
  scale.value = o.scale;
}

async function start() {
  const list = await client.models();
  const names = list.models.map((m) => m.name);
  $('model').replaceChildren(...names.map((n) => new Option(n, n)));
  $('model-row').hidden = names.length < 2;
  await follow();
  if (!location.hash && !$('example').hidden) await showExample(false);
}

// What is wrong with a link, or null.
function linkProblem(request, names) {
  const bad = (detail) => new client.Problem({title: 'Broken link', code: 'bad-link', detail});
  if (!request && location.hash.startsWith('#r='))
    return bad('The link is damaged or cut off: no request can be read from it.');
  if (request?.model && !names.includes(request.model))
    return bad(`The link asks for the model “${request.model}”; this service has ${
      names.join(', ')}.`);
  return null;
}

// Shows what the address asks for: at the start, after back and forward, and of a pasted link.
async function follow() {
  stopRun();
  hideProblem();
  const request = fromHash(location.hash), known = answers.get(location.hash);
  const names = [...$('model').options].map((o) => o.value);
  const name = names.includes(request?.model) ? request.model : model?.name ?? names[0];
  if (model?.name !== name) {
    $('model').value = name;
    await setModel(name);
  }
  say('');
  const problem = linkProblem(request, names);
  if (problem) throw problem;
  if (!request) {
    noAnswer();
    return;
  }
  restore(request);
  if (known) show(known.request, known.reply);
  else await run(request, 'none');
}

function wire() {
  $('ask').addEventListener('submit', (event) => {
    event.preventDefault();
    ask();
  });
  $('cancel').addEventListener('click', cancelRun);
  $('clear').addEventListener('click', clearPicture);
  $('choose').addEventListener('click', () => $('file').click());
  $('file').addEventListener('change', () => {
    takeFile($('file').files[0]);
    $('file').value = '';
  });
  $('example').addEventListener('click', () => showExample());
  $('draw-sample').addEventListener('click', drawSample);
  for (const id of ['steps', 'sampler']) $(id).addEventListener('change', () => {
    followUsual();
    changed(false);
  });
  $('model').addEventListener('change', () => chooseModel().catch(showProblem));
  $('copy-link').addEventListener('click', () =>
    last && copy(location.href.split('#')[0] + toHash(last.request), 'Link', $('copy-link')));
  $('copy-curl').addEventListener('click', () => copy(curlLine(last.request), 'curl line', $('copy-curl')));
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
  window.addEventListener('pagehide', () => { if (current?.job) client.cancel(current.job, true).catch(() => {}); });
}

wire();
start().catch(showProblem);
