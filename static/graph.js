// A small drawing of the causal graph: what is set, what follows, what is held.

import {svg} from './element.js';
import {plain} from './numbers.js';

const WIDE = 300, BOX = 84, HIGH = 36, GAP = 12;

// {variable: 'set' | 'held' | 'follows' | 'free'}, the image included.
export function statesOf(graph, intervention) {
  const out = {};
  for (const v of graph.variables) { // parents come first
    const value = intervention[v.name];
    const moved = v.parents.some((p) => out[p] === 'set' || out[p] === 'follows');
    out[v.name] = value?.hold ? 'held' : value !== undefined ? 'set' : moved ? 'follows' : 'free';
  }
  return out;
}

const WORDS = {set: 'set', held: 'held', follows: 'follows', free: 'as it is'};

const short = (v) => String(plain(v) ?? '');

// Column of each variable: one more than the deepest of its parents.
function columnsOf(graph) {
  const depth = {};
  for (const v of graph.variables)
    depth[v.name] = v.parents.length ? 1 + Math.max(...v.parents.map((p) => depth[p])) : 0;
  return depth;
}

// Places {variable: [x, y]} of the boxes' corners and the height of the drawing.
function places(graph) {
  const depth = columnsOf(graph), columns = 1 + Math.max(...Object.values(depth)), rows = [], at = {};
  for (const v of graph.variables) {
    const column = depth[v.name], row = rows[column] = (rows[column] ?? -1) + 1;
    at[v.name] = [columns > 1 ? column * (WIDE - BOX) / (columns - 1) : 0, row];
  }
  const most = 1 + Math.max(...rows), height = most * (HIGH + GAP) - GAP;
  for (const v of graph.variables) {
    const [x, row] = at[v.name], count = rows[depth[v.name]] + 1;
    const centred = (height - count * (HIGH + GAP) + GAP) / 2 + row * (HIGH + GAP);
    // An edge past a column must not run behind its boxes: columns stand a little apart in height.
    at[v.name] = [x, centred + (depth[v.name] % 2 && count < most ? (HIGH + GAP) / 3 : 0)];
  }
  return {at, height: Math.max(...Object.values(at).map(([, y]) => y)) + HIGH};
}

// box: where to draw; values: {variable: value} under the intervention, or as observed.
export function drawGraph(box, graph, intervention, values = {}) {
  const states = statesOf(graph, intervention), {at, height} = places(graph);
  const parts = [svg('defs', {}, svg('marker', {id: 'arrow', viewBox: '0 0 8 8', refX: 7, refY: 4,
    markerWidth: 9, markerHeight: 9, markerUnits: 'userSpaceOnUse', orient: 'auto'}, svg('path', {d: 'M0 0 8 4 0 8z'})))];
  for (const v of graph.variables) for (const parent of v.parents) {
    const [x1, y1] = at[parent], [x2, y2] = at[v.name];
    const cut = ['set', 'held'].includes(states[v.name]); // do() removes the arrows into a variable
    parts.push(svg('path', {class: `edge${cut ? ' cut' : states[parent] === 'free' ||
      states[parent] === 'held' ? '' : ' moves'}`, 'marker-end': 'url(#arrow)',
    d: `M${x1 + BOX} ${y1 + HIGH / 2} C${x1 + BOX + 24} ${y1 + HIGH / 2} ${x2 - 24} ${y2 + HIGH / 2} ${
      x2 - 1} ${y2 + HIGH / 2}`}));
  }
  for (const v of graph.variables) {
    const [x, y] = at[v.name], value = short(values[v.name]), state = states[v.name];
    parts.push(svg('g', {class: `node ${state}`, 'data-name': v.name},
      svg('rect', {x: x + 1, y: y + 1, width: BOX - 2, height: HIGH - 2, rx: 7}),
      svg('text', {x: x + BOX / 2, y: y + 15}, v.name.length > 11 ? `${v.name.slice(0, 10)}…` : v.name),
      svg('text', {x: x + BOX / 2, y: y + 29, class: 'state'},
        value === '' || v.kind === 'image' ? WORDS[state] : `${value}, ${WORDS[state]}`.slice(0, 17))));
  }
  const words = graph.variables.map((v) => `${v.name} ${WORDS[states[v.name]]}${
    values[v.name] === undefined || values[v.name] === null ? '' : ` (${short(values[v.name])})`}`);
  box.replaceChildren(svg('svg', {viewBox: `0 0 ${WIDE} ${height}`, role: 'img',
    'aria-label': `Causal graph: ${words.join(', ')}`}, ...parts));
}
