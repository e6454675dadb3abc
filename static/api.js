// openapi.json, laid out for reading.

const $ = (id) => document.getElementById(id);

function element(tag, cls, ...children) {
  const e = document.createElement(tag);
  if (cls) e.className = cls;
  e.append(...children);
  return e;
}

const resolve = (document_, value) => (value?.$ref
  ? value.$ref.split('/').slice(1).reduce((node, name) => node?.[name], document_) : value);

function typeText(schema) {
  if (!schema) return '';
  if (schema.$ref) return schema.$ref.split('/').at(-1);
  if (schema.enum) return schema.enum.join(', ');
  const either = schema.oneOf ?? schema.anyOf;
  if (either) return either.map(typeText).join(' or ');
  const type = [schema.type ?? ''].flat().join(' or ');
  const range = schema.minimum !== undefined || schema.maximum !== undefined
    ? ` ${schema.minimum ?? ''}..${schema.maximum ?? ''}` : '';
  return schema.items ? `list of ${typeText(schema.items)}` : type + range;
}

function table(heads, rows) {
  return element('table', '', element('thead', '', element('tr', '',
    ...heads.map((h) => element('th', '', h)))),
  element('tbody', '', ...rows.map((row) => element('tr', '',
    ...row.map((cell) => element('td', '', cell ?? ''))))));
}

function operation(document_, method, path, op) {
  const parameters = (op.parameters ?? []).map((p) => resolve(document_, p));
  const section = element('section', 'card', element('h2', '',
    element('span', 'method', method.toUpperCase()), element('code', '', path)),
  element('p', '', op.summary ?? op.description ?? ''));
  if (op.summary && op.description) section.append(element('p', 'help', op.description));
  if (parameters.length) section.append(element('h3', '', 'Parameters'),
    table(['Name', 'Where', 'Allowed', 'Meaning'], parameters.map((p) => [p.name, p.in,
      typeText(p.schema), p.description])));
  const bodies = Object.entries(resolve(document_, op.requestBody)?.content ?? {});
  if (bodies.length) section.append(element('h3', '', 'Body'),
    table(['Media type', 'Contents'], bodies.map(([type, b]) => [type, typeText(b.schema)])));
  section.append(element('h3', '', 'Replies'), table(['Status', 'Meaning'],
    Object.entries(op.responses ?? {}).map(([status, r]) => [status,
      resolve(document_, r).description])));
  return section;
}

function schema(document_, name, value) {
  const fields = Object.entries(value.properties ?? {});
  if (!fields.length) return [];
  return [element('section', 'card', element('h2', '', name), element('p', '', value.description ?? ''),
    table(['Field', 'Allowed', 'Meaning'], fields.map(([field, f]) => [field, typeText(f),
      f.description ?? resolve(document_, f)?.description]))) ];
}

async function show() {
  const here = new URL('counterfactual?do.digit=8', document.baseURI);
  $('line').textContent = 'curl --data-binary @seven.png -H \'Content-Type: image/png\' ' +
    `-H 'Accept: image/png' '${here}' -o eight.png`;
  const reply = await fetch('openapi.json');
  if (!reply.ok) throw new Error(`HTTP ${reply.status}`);
  const document_ = await reply.json();
  $('about').textContent = document_.info?.description ?? '';
  const routes = Object.entries(document_.paths).flatMap(([path, methods]) => Object.entries(methods)
    .filter(([method]) => ['get', 'post', 'put', 'delete'].includes(method))
    .map(([method, op]) => operation(document_, method, path, op)));
  const schemas = Object.entries(document_.components?.schemas ?? {})
    .flatMap(([name, value]) => schema(document_, name, value));
  $('routes').replaceChildren(...routes, ...schemas);
  $('routes').removeAttribute('role');
}

show().catch((why) => {
  $('routes').textContent = `The description could not be read (${why.message}): is the service ` +
    'running? Load this page again then.';
});
