// The controls of a model's variables, built from its graph: nothing here knows about digits.

import {element} from './element.js';
import {statesOf} from './graph.js';
import {plainIn} from './numbers.js';

const MANY = 20; // more labels than this become a searchable list
const STRIP = 8; // values of a film strip

// A value of four digits inside the range: rounding must not lead out of it.
const rounded = (variable, value) =>
  Math.min(variable.max, Math.max(variable.min, Number(value.toPrecision(4))));

function chips(variable, extra) {
  const short = variable.labels.every((label) => label.length < 3);
  const chip = ([value, text]) => element('label', {}, element('input',
    {type: 'radio', name: `do.${variable.name}`, value}), element('span', {}, text));
  return element('div', {},
    element('div', {class: short ? 'chips short' : 'chips'}, ...variable.labels.map((l) => chip([l, l]))),
    element('div', {class: 'chips extra'}, ...extra.map(chip)));
}

function list(variable) {
  const id = `labels-${variable.name}`;
  return element('div', {},
    element('input', {type: 'search', name: `do.${variable.name}`, list: id, autocomplete: 'off',
      placeholder: 'Type to search', 'aria-label': variable.name}),
    element('datalist', {id}, ...variable.labels.map((value) => element('option', {value}))));
}

// A continuous variable: free (as it is, or following its causes), set by its slider, held, or swept.
class Slider {
  // onChange(live); mayHold: it has causes that could move it.
  constructor(variable, mayHold, onChange) {
    this.variable = variable;
    this.state = 'free';
    this.before = ''; // words on the observed value
    this.onChange = onChange;
    const {name, min, max} = variable;
    this.show = plainIn(min, max);
    this.range = element('input', {type: 'range', name: `do.${name}`, min, max,
      step: (max - min) / 200, value: (min + max) / 2, 'aria-label': name});
    this.mark = element('span', {class: 'mark', hidden: true});
    this.text = element('output', {class: 'value'}, 'as it is');
    this.free = this.button(mayHold ? 'follow' : 'as it is', 'free');
    this.strip = this.button('film strip', 'sweep');
    this.hold = mayHold ? this.button('hold', 'hold') : null;
    this.range.addEventListener('input', () => this.set('set', true));
    this.box = element('div', {class: 'continuous'},
      element('div', {class: 'slider'}, element('span', {}, this.show(min)),
        element('div', {class: 'track'}, this.range, this.mark), element('span', {}, this.show(max))),
      this.text,
      element('div', {class: 'states'}, this.free, ...(this.hold ? [this.hold] : []), this.strip));
    this.press();
  }

  button(words, state) {
    const titles = {free: words === 'follow' ? 'Let it follow its causes' : 'Do not set it', sweep: `${STRIP} values from lowest to highest, side by side`,
      hold: 'Keep the observed value, whatever its causes do'};
    const button = element('button', {type: 'button', title: titles[state],
      'aria-label': `${this.variable.name}: ${words}`}, words);
    button.addEventListener('click', () => this.set(state, false));
    return button;
  }

  set(state, live) {
    this.state = state;
    this.press();
    this.onChange(live, this);
  }

  press() {
    for (const [button, state] of [[this.free, 'free'], [this.hold, 'hold'], [this.strip, 'sweep']])
      button?.setAttribute('aria-pressed', String(this.state === state));
    if (this.state === 'set')
      this.text.textContent = `set to ${this.show(this.range.value)}${this.before}`;
    this.range.setAttribute('aria-valuetext', `${this.show(this.range.value)}, ${this.text.textContent}`);
  }

  // What the intervention says of this variable, undefined: nothing.
  get value() {
    if (this.state === 'hold') return {hold: true};
    return this.state === 'set' ? rounded(this.variable, Number(this.range.value)) : undefined;
  }

  // The values of a film strip.
  get sweep() {
    const {min, max} = this.variable;
    return Array.from({length: STRIP}, (_, i) =>
      rounded(this.variable, min + (max - min) * i / (STRIP - 1)));
  }

  restore(value) {
    this.state = value === undefined ? 'free' : value?.hold ? 'hold' : 'set';
    if (this.state === 'set') this.range.value = value?.do ?? value;
    this.press();
  }

  // seen, now: numbers or undefined; state as in graph.js.
  observe(seen, now, state) {
    const {min, max} = this.variable, known = Number.isFinite(seen);
    this.mark.hidden = !known;
    if (known) {
      this.mark.style.left = `${100 * Math.min(1, Math.max(0, (seen - min) / (max - min)))}%`;
      this.mark.title = `observed: ${this.show(seen)}`;
    }
    const follows = state === 'follows' && Number.isFinite(now);
    if (this.state === 'sweep' && Number.isFinite(now)) this.range.value = now;
    if (this.state === 'free' || this.state === 'hold') {
      if (follows) this.range.value = now;
      else if (known) this.range.value = seen;
    }
    const before = this.before = known ? `, observed ${this.show(seen)}` : '';
    this.text.textContent = this.state === 'sweep' ? `from ${this.show(min)} to ${this.show(max)}${before}`
      : this.state === 'hold' ? `held${known ? ` at ${this.show(seen)}` : ''}`
          : follows ? `follows its causes: ${this.show(now)}${before}`
            : known ? `as it is: ${this.show(seen)}`
              : state === 'follows' ? 'follows its causes' : 'as it is';
    this.press();
  }
}

export class Controls {
  // onChange(live): the user set something; live while a slider moves.
  constructor(box, graph, onChange) {
    this.box = box;
    this.graph = graph;
    this.variables = graph.variables.filter((v) => v.kind !== 'image');
    this.sliders = new Map();
    const slid = (live, slider) => {
      if (slider.state === 'sweep') this.onlySweep(slider);
      onChange(live);
    };
    for (const v of this.variables) if (v.kind === 'continuous')
      this.sliders.set(v.name, new Slider(v, v.parents.length > 0, slid));
    box.replaceChildren(...this.variables.map((v) => element('fieldset', {},
      element('legend', {}, `Make the ${v.name}`), this.input(v))));
    box.onchange = (event) => {
      if (event.target.type === 'range') return;
      if (event.target.value === '*') this.freeSweeps();
      onChange(false);
    };
  }

  // One fan at a time: a film strip ends another one, and "all".
  onlySweep(slider) {
    for (const other of this.sliders.values())
      if (other !== slider && other.state === 'sweep') other.restore(undefined);
    for (const input of this.box.querySelectorAll('input[value="*"]:checked')) input.checked = false;
  }

  freeSweeps() {
    for (const slider of this.sliders.values()) if (slider.state === 'sweep') slider.restore(undefined);
  }

  // Marks what the model sees in the picture, and where the sliders of descendants have moved to.
  // null: nothing is known.
  observe(observed, propagated = {}) {
    for (const input of this.box.querySelectorAll('.chips input')) {
      const seen = observed?.[input.name.slice(3)]?.value === input.value;
      input.nextElementSibling.classList.toggle('seen', seen);
      input.nextElementSibling.title = seen ? 'What the model sees in the picture' : '';
    }
    const states = statesOf(this.graph, this.intervention());
    for (const [name, slider] of this.sliders)
      slider.observe(observed?.[name]?.value ?? undefined, propagated?.[name] ?? undefined, states[name]);
  }

  input(v) {
    if (v.kind === 'continuous') return this.sliders.get(v.name).box;
    if (v.labels.length > MANY) return list(v);
    const extra = this.variables.length > 1 ? [['', 'as it is']] : [];
    return chips(v, [...extra, ['*', v.labels.length === 2 ? 'both' : `all ${v.labels.length}`]]);
  }

  inputs(v) {
    return [...this.box.querySelectorAll('input')].filter((i) => i.name === `do.${v.name}`);
  }

  swept() {
    return [...this.sliders.values()].find((s) => s.state === 'sweep');
  }

  // {variable: value} of what is set; of a film strip its first value.
  intervention() {
    const out = {};
    for (const v of this.variables) {
      const slider = this.sliders.get(v.name);
      const input = slider ? null : this.inputs(v).find((i) => i.type !== 'radio' || i.checked);
      const value = slider === this.swept() ? slider?.sweep[0] : slider?.value;
      if (slider && value !== undefined) out[v.name] = value;
      if (input?.value) out[v.name] = input.value;
    }
    return out;
  }

  // The part of a request: {intervention} or, of a film strip, {interventions}.
  question() {
    const slider = this.swept(), one = this.intervention();
    if (!slider) return {intervention: one};
    return {interventions: slider.sweep.map((value) => ({...one, [slider.variable.name]: value}))};
  }

  // Sets exactly what an intervention, or the list of a film strip, sets.
  restore(intervention, interventions) {
    const first = intervention ?? interventions?.[0] ?? {};
    for (const v of this.variables) {
      const value = first[v.name], slider = this.sliders.get(v.name);
      if (slider) {
        const swept = interventions?.length > 1 && interventions.some((i) => i[v.name] !== value);
        slider.restore(value);
        if (swept) slider.state = 'sweep';
        slider.press();
        continue;
      }
      const inputs = this.inputs(v), text = String(value?.do ?? value ?? '');
      for (const input of inputs) {
        if (input.type === 'radio') input.checked = input.value === text;
        else input.value = text;
      }
    }
  }

  clear() {
    this.restore({});
  }

  // {variable, from, to} of the nth example: labels of the first variable that has chips, twice, then the
  // range of a continuous one, in turn. Null: there is neither.
  example(n) {
    const labels = this.variables.find((x) => x.kind === 'categorical' && x.labels.length <= MANY &&
      x.labels.length > 1);
    const numbers = [...this.sliders.values()];
    const turn = Math.floor(n / 3);
    if (numbers.length && (n % 3 === 2 || !labels)) {
      const v = numbers[turn % numbers.length].variable;
      return {variable: v.name, from: null, to: rounded(v, v.min + (v.max - v.min) * (turn % 2 ? 0.25 : 0.75))};
    }
    if (!labels) return null;
    const count = labels.labels.length, from = (7 + 3 * n) % count;
    return {variable: labels.name, from: labels.labels[from],
      to: labels.labels[(from + (count > 2 ? 2 : 1)) % count]};
  }

  // A select of labels for "let the model draw", or null.
  sampleSelect() {
    const v = this.variables.find((x) => x.kind === 'categorical');
    if (!v) return null;
    const select = element('select', {'aria-label': `${v.name} to draw`},
      element('option', {value: ''}, 'any'),
      ...v.labels.map((value) => element('option', {value}, value)));
    select.intervention = () => (select.value ? {[v.name]: select.value} : undefined);
    return select;
  }
}
