// The service over HTTP: one function per call. Errors are Problem objects that hold the server's
// own words. Knows nothing of the page.

export class Problem extends Error {
  constructor(body) {
    super(body.detail || body.title || 'The service did not answer as expected.');
    this.title = body.title || 'Error';
    this.errors = body.errors || [];
    this.code = body.code || '';
  }
}

async function call(path, options = {}) {
  let reply;
  try {
    reply = await fetch(path, options);
  } catch {
    throw new Problem({title: 'No connection', detail: 'The service cannot be reached.'});
  }
  const text = await reply.text();
  let body = {};
  try {
    body = text ? JSON.parse(text) : {};
  } catch {
    body = {title: `HTTP ${reply.status}`, detail: text.slice(0, 300)};
  }
  if (!reply.ok) throw new Problem({title: `HTTP ${reply.status}`, ...body});
  return body;
}

function post(path, body, headers = {}) {
  return call(path, {method: 'POST', body: JSON.stringify(body),
    headers: {'Content-Type': 'application/json', ...headers}});
}

export const models = () => call('v1/models');
export const model = (name) => call(`v1/models/${encodeURIComponent(name)}`);
export const cancel = (id) => call(`v1/jobs/${id}`, {method: 'DELETE'});

// Streams a job's events to `on.progress` and `on.preview`; resolves when it has ended.
function follow(id, on) {
  return new Promise((resolve) => {
    const events = new EventSource(`v1/jobs/${id}/events`);
    const listen = (name, handler) =>
      events.addEventListener(name, (e) => handler(JSON.parse(e.data)));
    listen('progress', (data) => on.progress?.(data));
    listen('preview', (data) => on.preview?.(data));
    const end = () => { events.close(); resolve(); };
    for (const name of ['succeeded', 'failed', 'canceled']) events.addEventListener(name, end);
    // The browser reconnects by itself after a cut; a refused stream is closed for good.
    events.onerror = () => { if (events.readyState === EventSource.CLOSED) end(); };
  });
}

const ended = (job) => !['queued', 'running'].includes(job.status);

// Runs a request to its end. on: {accepted(id), progress(data), preview(data)}.
async function run(path, request, on = {}) {
  let job = await post(path, request, {Prefer: 'respond-async'});
  if (!job.status) return job; // answered at once
  const id = job.id;
  on.accepted?.(id);
  if (!ended(job)) await follow(id, on);
  job = await call(`v1/jobs/${id}`);
  while (!ended(job)) { // the stream was refused: ask instead
    await new Promise((resolve) => setTimeout(resolve, 500));
    job = await call(`v1/jobs/${id}`);
  }
  if (job.status === 'succeeded') return job.result;
  throw new Problem(job.problem || {title: 'Canceled', code: 'canceled',
    detail: `The job was ${job.status}${job.reason ? ` (${job.reason})` : ''}.`});
}

export const counterfactual = (request, on) => run('v1/counterfactual', request, on);
export const sample = (request) => run('v1/samples', request);
