// The controls of a model's variables, built from its graph: nothing here knows about digits.

const MANY = 20; // more labels than this become a searchable list

function element(tag, attributes = {}, ...children) {
  const e = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes))
    if (value !== false) e.setAttribute(name, value === true ? '' : value);
  e.append(...children);
  return e;
}

function chips(variable, extra) {
  const short = variable.labels.every((label) => label.length < 3);
  const box = element('div', {class: short ? 'chips short' : 'chips'});
  const options = [...variable.labels.map((l) => [l, l]), ...extra];
  for (const [value, text] of options)
    box.append(element('label', {}, element('input',
      {type: 'radio', name: `do.${variable.name}`, value}), element('span', {}, text)));
  return box;
}

function list(variable) {
  const id = `labels-${variable.name}`;
  return element('div', {},
    element('input', {type: 'search', name: `do.${variable.name}`, list: id, autocomplete: 'off',
      placeholder: 'Type to search', 'aria-label': variable.name}),
    element('datalist', {id}, ...variable.labels.map((value) => element('option', {value}))));
}

function slider(variable) {
  const box = element('div', {class: 'slider'});
  const middle = (variable.min + variable.max) / 2;
  const use = element('input', {type: 'checkbox', name: `use.${variable.name}`, 'data-live': true,
    'aria-label': `Set ${variable.name}`});
  const range = element('input', {type: 'range', name: `do.${variable.name}`, min: variable.min,
    max: variable.max, step: (variable.max - variable.min) / 200, value: middle,
    'data-live': true, 'aria-label': variable.name});
  const shown = element('output', {}, middle.toPrecision(3));
  range.addEventListener('input', () => {
    use.checked = true;
    shown.textContent = Number(range.value).toPrecision(3);
  });
  box.append(use, range, shown);
  return box;
}

export class Controls {
  // onChange(live): the user set something; live while a slider moves.
  constructor(box, graph, onChange) {
    this.box = box;
    this.variables = graph.variables.filter((v) => v.kind !== 'image');
    box.replaceChildren(...this.variables.map((v) => element('fieldset', {},
      element('legend', {}, `Make the ${v.name}`), this.input(v))));
    box.oninput = (event) => {
      if (event.target.type === 'search') return; // half a word
      onChange('live' in event.target.dataset);
    };
    box.onchange = (event) => {
      if (event.target.type === 'search') onChange(false);
    };
  }

  // Marks what the model sees in the picture; null: nothing is known.
  observe(observed) {
    for (const input of this.box.querySelectorAll('.chips input')) {
      const seen = observed?.[input.name.slice(3)]?.value === input.value;
      input.nextElementSibling.classList.toggle('seen', seen);
      input.nextElementSibling.title = seen ? 'What the model sees in the picture' : '';
    }
  }

  input(v) {
    if (v.kind === 'continuous') return slider(v);
    if (v.labels.length > MANY) return list(v);
    const extra = this.variables.length > 1 ? [['', 'as it is']] : [];
    return chips(v, [...extra, ['*', `all ${v.labels.length}`]]);
  }

  find(name, value) {
    return [...this.box.querySelectorAll('input')].find((i) => i.name === name &&
      (value === undefined || i.value === value));
  }

  // {variable: value} of what is set.
  intervention() {
    const out = {};
    for (const v of this.variables) {
      if (v.kind === 'continuous') {
        if (this.find(`use.${v.name}`).checked) out[v.name] = Number(this.find(`do.${v.name}`).value);
        continue;
      }
      const inputs = [...this.box.querySelectorAll('input')].filter((i) => i.name === `do.${v.name}`);
      const input = inputs.find((i) => i.type !== 'radio' || i.checked);
      if (input?.value) out[v.name] = input.value;
    }
    return out;
  }

  restore(intervention) {
    for (const v of this.variables) {
      const value = intervention?.[v.name];
      if (value === undefined || typeof value === 'object') continue;
      const labels = v.kind === 'categorical' && v.labels.length <= MANY;
      const input = this.find(`do.${v.name}`, labels ? String(value) : undefined);
      if (!input) continue;
      if (labels) input.checked = true;
      else { input.value = value; input.dispatchEvent(new Event('input')); }
    }
  }

  // {variable, from, to} of the nth example: two labels of the first variable that has chips. Null:
  // there is none.
  example(n) {
    const v = this.variables.find((x) => x.kind === 'categorical' && x.labels.length <= MANY);
    if (!v || v.labels.length < 2) return null;
    const from = (7 + 3 * n) % v.labels.length;
    return {variable: v.name, from: v.labels[from], to: v.labels[(from + (v.labels.length > 2 ? 2 : 1)) % v.labels.length]};
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
