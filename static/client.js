// The service over HTTP: one function per call. Errors are Problem objects that hold the server's
// own words. Knows nothing of the page.

export class Problem extends Error {
  // retryAfter: seconds, of the reply's header.
  constructor(body, retryAfter) {
    const words = body.detail || body.title || 'The service did not answer as expected.';
    super(retryAfter ? `${words} Try again in ${retryAfter} s.` : words);
    this.title = body.title || 'Error';
    this.errors = body.errors || [];
    this.code = body.code || '';
  }
}

// The bearer key, for this tab only. Services without keys need none.
let key = sessionStorage.getItem('key') ?? '';

export function useKey(text) {
  key = text.trim();
  sessionStorage.setItem('key', key);
}

const withKey = (headers = {}) => (key ? {...headers, Authorization: `Bearer ${key}`} : headers);

async function call(path, options = {}) {
  let reply;
  try {
    reply = await fetch(path, {...options, headers: withKey(options.headers)});
  } catch {
    if (options.signal?.aborted) throw new Problem({title: 'Canceled', code: 'canceled'});
    throw new Problem({title: 'No connection', code: 'no-connection',
      detail: `The service at ${location.host} cannot be reached.`});
  }
  const text = await reply.text();
  let body = {};
  try {
    body = text ? JSON.parse(text) : {};
  } catch {
    // not the service's own words: a proxy's page, of which only the status is of use
    body = {title: `HTTP ${reply.status}`, detail: `The service answered with HTTP ${reply.status}.`};
  }
  if (!reply.ok) throw new Problem({title: `HTTP ${reply.status}`, ...body},
    reply.headers.get('Retry-After'));
  return body;
}

function post(path, body, headers = {}, signal = undefined) {
  return call(path, {method: 'POST', body: JSON.stringify(body), signal,
    headers: {'Content-Type': 'application/json', ...headers}});
}

export const models = () => call('v1/models');
export const model = (name) => call(`v1/models/${encodeURIComponent(name)}`);
// `keepalive`: the call outlives the page.
export const cancel = (id, keepalive = false) =>
  call(`v1/jobs/${id}`, {method: 'DELETE', keepalive});

const TERMINAL = ['succeeded', 'failed', 'canceled'];

// One event of a stream from its lines, comments left out.
function parseEvent(text) {
  const event = {name: 'message', data: '', id: null};
  for (const line of text.split('\n')) {
    const [, field, value] = line.match(/^(\w*): ?(.*)$/s) ?? [];
    if (field === 'event') event.name = value;
    if (field === 'data') event.data += value;
    if (field === 'id') event.id = value;
  }
  return event;
}

// Hands the events of a reply to `take` as they come, until it says true (true) or the end (false).
async function readEvents(reply, take) {
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  for (;;) {
    const {value, done} = await reader.read();
    if (done) return false;
    text += value;
    for (let end; (end = text.indexOf('\n\n')) >= 0; text = text.slice(end + 2)) {
      if (!take(parseEvent(text.slice(0, end)))) continue;
      reader.cancel();
      return true;
    }
  }
}

// Streams a job's events to `on.progress` and `on.preview`; resolves when it has ended, or when the
// stream is refused. EventSource would do, could it send a key. After a cut it goes on from the last
// event.
async function follow(id, on) {
  let last = null;
  for (let cuts = 0; cuts < 8 && !on.signal?.aborted; cuts++) {
    try {
      const reply = await fetch(`v1/jobs/${id}/events`, {signal: on.signal,
        headers: withKey(last === null ? {} : {'Last-Event-ID': last})});
      if (!reply.ok) return;
      const ended = await readEvents(reply, (event) => {
        last = event.id ?? last;
        if (['progress', 'preview'].includes(event.name)) on[event.name]?.(JSON.parse(event.data));
        return TERMINAL.includes(event.name);
      });
      if (ended) return;
    } catch { /* cut: again in a moment */ }
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
}

const ended = (job) => !['queued', 'running'].includes(job.status);

// Runs a request to its end. Quick answers come with the first reply; others are jobs that are
// followed. on: {accepted(id), progress(data), preview(data), signal}: after an abort the job is
// canceled, and Problem has the code "canceled".
async function run(path, request, on = {}) {
  let job = await post(path, request, {Prefer: 'wait=1'}, on.signal);
  if (!job.status) return job; // answered at once
  const id = job.id, stop = () => cancel(id).catch(() => { /* it has ended meanwhile */ });
  on.signal?.addEventListener('abort', stop);
  on.accepted?.(id);
  try {
    if (!ended(job)) await follow(id, on);
    job = await call(`v1/jobs/${id}`, {signal: on.signal});
    while (!ended(job)) { // the stream was refused: ask instead
      await new Promise((resolve) => setTimeout(resolve, 500));
      job = await call(`v1/jobs/${id}`, {signal: on.signal});
    }
  } finally {
    on.signal?.removeEventListener('abort', stop);
  }
  if (job.status === 'succeeded') return job.result;
  throw new Problem(job.problem || {title: 'Canceled', code: job.reason === 'client' ? 'canceled' : '',
    detail: `The job was ${job.status}${job.reason ? ` (${job.reason})` : ''}.`});
}

export const counterfactual = (request, on) => run('v1/counterfactual', request, on);
export const sample = (request) => run('v1/samples', request);
