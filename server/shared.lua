-- The shared store: every change of a job that several processes must agree on, as one script, so
-- that each is atomic. ARGV[1] names the operation. Keys are made here, so Redis Cluster is not
-- supported. Time is the server's: clocks of the processes do not matter.
--
--   j:ID        hash: the job            e:ID  stream: its events, ids as clients see them
--   k:DIGEST    hash: job and request of an idempotency key
--   a:ID        hash: a kept abduction   x:ID  owner of a job that was kept and is gone
--   p:PROCESS   lives while the process does
--   v:ID        lives while somebody watches the job
--   turns:SHA   zset: clients that wait for this model, by turn     line:SHA:CLIENT  their jobs
--   clock:SHA   the turn that was taken last     ring:SHA  clients as the program of before left them
--   waiting     zset: waiting jobs by deadline                  clients  hash: how many of each
--   costs:CLIENT  hash: what its jobs that wait or run cost
--   claims:SHA  stream, group "workers": one entry per claimed job, idle since the last heartbeat
--   workers:SHA zset: processes that run this model, until when they are taken for alive
--   alive       when a process was heard last   grace  until when nobody's jobs are taken over
--   finished    zset: ended jobs by time   sizes  hash   bytes  number
-- Channels: bell (a job changed), work (a model has a job), cancel (a job), drop (an abduction).
--
-- Operations that may be repeated after a lost reply give the same answer again.
local P = 'diffscm:'
local call = redis.call
local t = call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local KEPT_AFTER = 86400 -- seconds that an ended job's id still answers "expired"
local EVENTS_MAX = 128
local DEATHS_MAX = 5
local STALE = 1500
local NEVER = 4102444800000 -- a deadline that does not come

local function J(id) return P .. 'j:' .. id end
local function E(id) return P .. 'e:' .. id end

local function bell(id) call('PUBLISH', P .. 'bell', id) end

local function get(id, ...)
    local values = call('HMGET', J(id), ...)
    for i = 1, #values do values[i] = values[i] or '' end
    return values
end

local function ended(state) return state == 'succeeded' or state == 'failed' or state == 'canceled' end

-- ---- waiting: turns as in queue.c, by the cost of jobs ----

local TURNS_KEPT = 86400 -- seconds without a claim

local function cost_of(id) return tonumber(call('HGET', J(id), 'cost') or 1) end

local function clock_of(sha)
    local clock = call('GET', P .. 'clock:' .. sha)
    local first = not clock and call('ZRANGE', P .. 'turns:' .. sha, 0, 0, 'WITHSCORES')[2]
    return tonumber(clock or first or 0)
end

-- front: a job that comes back; its cost was counted when it was claimed.
local function queue(id, sha, client, deadline, front)
    local line, turns, cost = P .. 'line:' .. sha .. ':' .. client, P .. 'turns:' .. sha, cost_of(id)
    if call('EXISTS', line) == 0 then call('ZADD', turns, clock_of(sha) + cost, client) end
    if front then call('ZINCRBY', turns, -cost, client) end
    call(front and 'LPUSH' or 'RPUSH', line, id)
    call('ZADD', P .. 'waiting', deadline, id)
    call('HINCRBY', P .. 'clients', client, 1)
    call('SADD', P .. 'models', sha)
    call('PUBLISH', P .. 'work', sha)
end

local function uncount(id, client)
    call('ZREM', P .. 'waiting', id)
    if call('HINCRBY', P .. 'clients', client, -1) <= 0 then call('HDEL', P .. 'clients', client) end
end

local function unqueue(id, sha, client)
    if not call('ZSCORE', P .. 'waiting', id) then return false end
    local line = P .. 'line:' .. sha .. ':' .. client
    uncount(id, client)
    call('LREM', line, 1, id)
    if call('EXISTS', line) == 0 then call('ZREM', P .. 'turns:' .. sha, client) end
    return true
end

-- How many will be taken before this one, as far as the first POSITIONS jobs tell.
local POSITIONS = 500
local function position(id, sha, client)
    local clock, seen = clock_of(sha), 0
    local function line_of(other) return P .. 'line:' .. sha .. ':' .. other end
    local index = call('LPOS', line_of(client), id)
    if not index then return 0 end
    local own = math.max(clock, tonumber(call('ZSCORE', P .. 'turns:' .. sha, client) or 0))
    for _, before in ipairs(index > 0 and call('LRANGE', line_of(client), 0, math.min(index, POSITIONS) - 1) or {}) do
        own, seen = own + cost_of(before), seen + 1
    end
    local ahead, turns = index, call('ZRANGE', P .. 'turns:' .. sha, 0, POSITIONS - 1, 'WITHSCORES')
    for i = 1, #turns, 2 do
        local other, turn = turns[i], math.max(clock, tonumber(turns[i + 1]))
        if turn > own or seen >= POSITIONS then break end
        for _, job in ipairs(other ~= client and call('LRANGE', line_of(other), 0, POSITIONS - seen - 1) or {}) do
            if turn > own or (turn == own and other > client) then break end
            turn, seen, ahead = turn + cost_of(job), seen + 1, ahead + 1
        end
    end
    return ahead
end

-- ---- ends ----

local function add_event(id, number, kind, data)
    if call('XLEN', E(id)) >= EVENTS_MAX then
        for _, entry in ipairs(call('XRANGE', E(id), '-', '+', 'COUNT', 4)) do
            if entry[2][2] == 'progress' or entry[2][2] == 'preview' then
                call('XDEL', E(id), entry[1])
                break
            end
        end
    end
    call('XADD', E(id), number .. '-0', 'kind', kind, 'data', data)
    call('HSET', J(id), 'last', number)
end

local function unclaim(sha, entry)
    if entry == '' then return end
    call('XACK', P .. 'claims:' .. sha, 'workers', entry)
    call('XDEL', P .. 'claims:' .. sha, entry)
end

-- The first write frees memory: Redis lets the rest of a script pass then even when it is full.
local function finish(id, state, fields, number, data, age)
    call('HDEL', J(id), 'request')
    local j = get(id, 'owner', 'last', 'key', 'preview', 'client')
    call('HDEL', P .. 'costs:' .. j[5], id)
    if state == 'canceled' and j[4] ~= '' then call('XDEL', E(id), j[4] .. '-0') end
    call('HSET', J(id), 'state', state, 'finished', now, unpack(fields))
    add_event(id, number or tonumber(j[2]) + 1, state, data)
    call('EXPIRE', J(id), age)
    call('EXPIRE', E(id), age)
    if j[3] ~= '' then call('EXPIRE', j[3], age) end
    call('SET', P .. 'x:' .. id, j[1], 'EX', age + KEPT_AFTER)
    local size = call('HSTRLEN', J(id), 'result')
    call('ZADD', P .. 'finished', now, id)
    call('HSET', P .. 'sizes', id, size)
    call('INCRBY', P .. 'bytes', size)
    bell(id)
end

-- Jobs that the script itself canceled, by reason: whoever called counts them.
local canceled = {client = 0, disconnect = 0, deadline = 0, shutdown = 0}

local function finish_canceled(id, reason, age)
    canceled[reason] = canceled[reason] + 1
    finish(id, 'canceled', {'reason', reason}, nil, '{"reason":"' .. reason .. '"}', age)
end

local function finish_failed(id, code, detail, age)
    finish(id, 'failed', {'code', code, 'detail', detail}, nil, '', age)
end

-- ---- operations ----

local op = {}

-- What a client's jobs cost together. Those that are gone without an end are forgotten.
local function costs_of(client)
    local sum, list = 0, call('HGETALL', P .. 'costs:' .. client)
    for i = 1, #list, 2 do
        local state = call('HGET', J(list[i]), 'state')
        if not state or ended(state) then
            call('HDEL', P .. 'costs:' .. client, list[i])
        else
            sum = sum + tonumber(list[i + 1])
        end
    end
    return sum
end

-- id owner client sha work left_ms promised process request key digest capacity share age reserve few
-- cost most: what it costs, and what its client's jobs may cost together, 0: no limit
function op.accept(id, owner, client, sha, work, left, promised, process, request, key, digest,
                   capacity, share, age, reserve, few, cost, most)
    if call('EXISTS', J(id)) == 1 then return {'ok'} end
    if key ~= '' then
        local known = call('HMGET', key, 'id', 'digest')
        if known[1] and call('EXISTS', J(known[1])) == 1 then
            return {known[2] == digest and 'same' or 'other', known[1]}
        end
    end
    if call('ZCOUNT', P .. 'workers:' .. sha, now, '+inf') == 0 then return {'no-worker'} end
    if call('ZCARD', P .. 'waiting') >= tonumber(capacity) then return {'full'} end
    local own = tonumber(call('HGET', P .. 'clients', client) or 0)
    if own >= tonumber(share) then return {'share'} end
    -- The last places are for clients with few jobs, as in queue.c.
    if tonumber(reserve) > 0 and own >= tonumber(few) and
       call('ZCARD', P .. 'waiting') + tonumber(reserve) >= tonumber(capacity) then return {'full'} end
    cost = math.max(1, tonumber(cost))
    if tonumber(most) > 0 then
        local held = costs_of(client) -- a client without any may have one that costs more
        if held > 0 and held + cost > tonumber(most) then return {'cost', tostring(held + cost)} end
    end
    local deadline = left == '' and NEVER or now + tonumber(left)
    local life = left == '' and 604800 or math.ceil(tonumber(left) / 1000) + tonumber(age) + 3600
    call('HSET', J(id), 'state', 'queued', 'owner', owner, 'client', client, 'sha', sha, 'work', work,
         'promised', promised, 'process', process, 'request', request, 'key', key, 'created', now,
         'deadline', deadline, 'deaths', 0, 'run', 0, 'last', 1, 'cost', cost)
    call('XADD', E(id), '1-0', 'kind', 'queued', 'data', '{}')
    call('EXPIRE', J(id), life)
    call('EXPIRE', E(id), life)
    call('HSET', P .. 'costs:' .. client, id, cost)
    if call('TTL', P .. 'costs:' .. client) < life then call('EXPIRE', P .. 'costs:' .. client, life) end
    if key ~= '' then
        call('HSET', key, 'id', id, 'digest', digest)
        call('EXPIRE', key, life)
    end
    queue(id, sha, client, deadline, false)
    return {'ok'}
end

function op.promise(id)
    if call('EXISTS', J(id)) == 0 then return {'none'} end
    call('HSET', J(id), 'promised', 1)
    return {'ok'}
end

-- id, and the number of the last event that is known
function op.load(id, after)
    local j = get(id, 'state', 'owner', 'client', 'sha', 'work', 'created', 'deadline', 'finished',
                  'reason', 'code', 'detail', 'problem', 'step', 'steps', 'last', 'result', 'promised')
    if j[1] == '' then
        local owner = call('GET', P .. 'x:' .. id)
        return owner and {'expired', owner} or {'none'}
    end
    local place = j[1] == 'queued' and position(id, j[4], j[3]) or 0
    local age = j[8] ~= '' and now - tonumber(j[8]) or 0
    local out = {'job', j[1], j[2], j[3], j[5], tostring(now - tonumber(j[6])),
                 tostring(tonumber(j[7]) - now), tostring(age), j[9], j[10], j[11], j[12], j[13], j[14],
                 tostring(place), j[16], j[17]}
    local events = {}
    for _, entry in ipairs(call('XRANGE', E(id), '(' .. after .. '-0', '+')) do
        events[#events + 1] = string.match(entry[1], '%d+')
        events[#events + 1] = entry[2][2]
        events[#events + 1] = entry[2][4]
    end
    out[#out + 1] = events
    return out
end

function op.view(id)
    call('SET', P .. 'v:' .. id, 1, 'EX', 10)
    return {'ok'}
end

-- id reason age; of a job that was promised, "disconnect" is no reason
function op.cancel(id, reason, age)
    local j = get(id, 'state', 'sha', 'client', 'promised')
    if j[1] == '' then return {'none'} end
    if ended(j[1]) then return {'ended'} end
    if reason == 'disconnect' and j[4] == '1' then return {'kept'} end
    if unqueue(id, j[2], j[3]) then
        finish_canceled(id, reason, age)
        return {'canceled'}
    end
    call('HSETNX', J(id), 'cancel', reason)
    call('PUBLISH', P .. 'cancel', id)
    return {'told'}
end

-- ---- of workers ----

local function mine(id, worker, run)
    local j = get(id, 'worker', 'run', 'state')
    return j[1] == worker and j[2] == run and not ended(j[3])
end

local function orders(id)
    local reason = call('HGET', J(id), 'cancel')
    local seen = call('EXISTS', P .. 'v:' .. id)
    return {reason and 'cancel' or 'ok', reason or '', tostring(seen)}
end

-- Gives a claimed job back, or ends it when nobody wants it any more.
local function give_back(id, died, age)
    local j = get(id, 'state', 'sha', 'client', 'deadline', 'deaths', 'cancel', 'promised', 'process', 'entry')
    if j[1] == '' or ended(j[1]) then return false end
    local deaths = tonumber(j[5]) + (died and 1 or 0)
    unclaim(j[2], j[9])
    call('HSET', J(id), 'state', 'queued', 'worker', '', 'entry', '', 'started', 0, 'deaths', deaths)
    if j[6] ~= '' then
        finish_canceled(id, j[6], age)
    elseif deaths >= DEATHS_MAX then
        finish_failed(id, 'job-crashed', 'the service ended ' .. deaths ..
            ' times while it ran this job: it is not tried again', age)
    else
        queue(id, j[2], j[3], j[4], true)
        bell(id)
    end
    return true
end

-- When nobody at all was heard, this server was away, or its clock jumped: all get a lease's time to
-- say that they are alive.
local function hear(lease)
    local alive = tonumber(call('GET', P .. 'alive') or now)
    if now - alive > lease / 2 then call('SET', P .. 'grace', now + lease, 'PX', lease) end
    call('SET', P .. 'alive', now)
end

-- Jobs whose worker has been silent for the time of a lease. Returns how many, and how many failed.
local function take_over(sha, worker, lease, age)
    local claims, taken, poison = P .. 'claims:' .. sha, 0, 0
    local grace = tonumber(call('GET', P .. 'grace') or 0)
    if grace > now and grace <= now + lease then return 0, 0 end
    local found = call('XAUTOCLAIM', claims, 'workers', worker, lease, '0-0', 'COUNT', 64)[2]
    for i = #found, 1, -1 do -- the oldest is put back last, so that it is the next
        local entry = found[i]
        if entry then
            local id = entry[2][2]
            local known = get(id, 'entry', 'started')
            if known[1] == entry[1] and give_back(id, known[2] == '1', age) then
                taken = taken + 1
                if call('HGET', J(id), 'state') == 'failed' then poison = poison + 1 end
            else
                unclaim(sha, entry[1])
            end
        end
    end
    return taken, poison
end

-- The next job in turn, '' for one that is gone, nil when none waits.
local function next_of(sha)
    local turns, clock = P .. 'turns:' .. sha, clock_of(sha)
    local before = call('LPOP', P .. 'ring:' .. sha)
    while before do
        call('ZADD', turns, 'NX', clock, before)
        before = call('LPOP', P .. 'ring:' .. sha)
    end
    local first = call('ZRANGE', turns, 0, 0, 'WITHSCORES')
    local client = first[1]
    if not client then return nil end
    local line = P .. 'line:' .. sha .. ':' .. client
    local id = call('LPOP', line)
    if id then
        clock = math.max(clock, tonumber(first[2]))
        call('SET', P .. 'clock:' .. sha, clock, 'EX', TURNS_KEPT)
        call('ZADD', turns, clock + cost_of(id), client)
        uncount(id, client)
    end
    if call('EXISTS', line) == 0 then call('ZREM', turns, client) end
    return id or ''
end

-- worker lease age want sent sha...: keeps the worker registered; gives jobs from its models in turn.
-- sent: when, by this server's clock. What waited longer is not heard by its worker any more.
function op.claim(worker, lease, age, want, sent, ...)
    local out, taken, poison = {}, 0, 0
    want, lease = tonumber(want), tonumber(lease)
    if now - tonumber(sent) > STALE then want = 0 end
    hear(lease)
    for _, sha in ipairs({...}) do
        local claims, workers = P .. 'claims:' .. sha, P .. 'workers:' .. sha
        if call('EXISTS', claims) == 0 then
            call('XGROUP', 'CREATE', claims, 'workers', '0', 'MKSTREAM')
        end
        call('ZADD', workers, now + lease, worker)
        local more, bad = take_over(sha, worker, lease, age)
        taken, poison = taken + more, poison + bad
        -- The rest is for the others: nobody claims more than a fair part.
        local part = math.ceil(call('ZCARD', P .. 'waiting') / call('ZCOUNT', workers, now, '+inf'))
        local most = want - #out
        if most > part then most = part end
        while most > 0 do
            local id = next_of(sha)
            if not id then break end
            local j = get(id, 'owner', 'client', 'work', 'request', 'deadline', 'deaths', 'created',
                          'promised', 'process', 'state')
            if j[10] == 'queued' then
                if tonumber(j[5]) <= now then
                    finish_canceled(id, 'deadline', age)
                elseif j[8] == '0' and call('EXISTS', P .. 'p:' .. j[9]) == 0 then
                    finish_canceled(id, 'disconnect', age)
                else
                    local run = call('HINCRBY', J(id), 'run', 1)
                    local entry = call('XADD', claims, '*', 'job', id)
                    call('XREADGROUP', 'GROUP', 'workers', worker, 'COUNT', 1, 'STREAMS', claims, '>')
                    call('HSET', J(id), 'worker', worker, 'entry', entry, 'started', 0)
                    out[#out + 1] = {id, j[1], j[2], j[3], j[4], tostring(tonumber(j[5]) - now), j[6],
                                     tostring(run), tostring(now - tonumber(j[7]))}
                    most = most - 1
                end
            end
        end
    end
    return {tostring(taken), tostring(poison), out, tostring(canceled.deadline),
            tostring(canceled.disconnect), tostring(canceled.client)}
end

-- worker lease count sha... (id run)...: the time, and what became of each of its jobs
function op.beat(worker, lease, count, ...)
    local args, out = {...}, {tostring(now)}
    count, lease = tonumber(count), tonumber(lease)
    hear(lease)
    call('SET', P .. 'p:' .. worker, 1, 'PX', 3 * lease)
    for i = 1, count do call('ZADD', P .. 'workers:' .. args[i], now + lease, worker) end
    for i = count + 1, #args, 2 do
        local id = args[i]
        if mine(id, worker, args[i + 1]) then
            local j = get(id, 'sha', 'entry')
            call('XCLAIM', P .. 'claims:' .. j[1], 'workers', worker, 0, j[2], 'JUSTID')
            out[#out + 1] = orders(id)
        else
            out[#out + 1] = {'lost', '', '0'}
        end
    end
    return out
end

function op.start(id, worker, run)
    if not mine(id, worker, run) then return {'lost', '', '0'} end
    call('HSET', J(id), 'state', 'running', 'started', 1)
    call('HINCRBY', J(id), 'starts', 1)
    return orders(id)
end

function op.event(id, worker, run, number, kind, data, step, steps)
    if not mine(id, worker, run) then return {'lost', '', '0'} end
    local j = get(id, 'preview', 'last')
    if tonumber(number) > tonumber(j[2]) then
        if kind == 'preview' then
            if j[1] ~= '' then call('XDEL', E(id), j[1] .. '-0') end
            call('HSET', J(id), 'preview', number)
        end
        call('HSET', J(id), 'step', step, 'steps', steps)
        add_event(id, number, kind, data)
        bell(id)
    end
    return orders(id)
end

-- id worker run state reason problem result number data age
function op.finish(id, worker, run, state, reason, problem, result, number, data, age)
    local j = get(id, 'worker', 'run', 'state', 'sha', 'entry', 'last')
    if j[1] ~= worker or j[2] ~= run then return {'lost'} end
    if ended(j[3]) then return {'ok'} end
    unclaim(j[4], j[5])
    if tonumber(number) <= tonumber(j[6]) then number = tonumber(j[6]) + 1 end
    finish(id, state, {'reason', reason, 'problem', problem, 'result', result}, number, data, age)
    return {'ok'}
end

function op.release(id, worker, run, age)
    if mine(id, worker, run) then give_back(id, false, age) end
    return {'ok'}
end

-- The worker ends and has given back what it had.
function op.leave(worker, ...)
    for _, sha in ipairs({...}) do
        call('ZREM', P .. 'workers:' .. sha, worker)
        if call('EXISTS', P .. 'claims:' .. sha) == 1 then
            local left = call('XPENDING', P .. 'claims:' .. sha, 'workers', '-', '+', 1, worker)
            if #left == 0 then call('XGROUP', 'DELCONSUMER', P .. 'claims:' .. sha, 'workers', worker) end
        end
    end
    call('DEL', P .. 'p:' .. worker)
    return {'ok'}
end

-- ---- abductions ----

function op.keep(id, owner, key, age)
    call('HSET', P .. 'a:' .. id, 'owner', owner, 'key', key)
    call('EXPIRE', P .. 'a:' .. id, age)
    return {'ok'}
end

function op.find(id, owner, age)
    local a = call('HMGET', P .. 'a:' .. id, 'owner', 'key')
    if not a[1] or a[1] ~= owner then return {'none'} end
    call('EXPIRE', P .. 'a:' .. id, age)
    return {'ok', a[2]}
end

function op.drop(id, owner)
    if call('HGET', P .. 'a:' .. id, 'owner') ~= owner then return {'none'} end
    call('DEL', P .. 'a:' .. id)
    call('PUBLISH', P .. 'drop', id)
    return {'ok'}
end

-- ---- housekeeping ----

local function forget(id)
    local key = call('HGET', J(id), 'key')
    local size = tonumber(call('HGET', P .. 'sizes', id) or 0)
    if key and key ~= '' and call('HGET', key, 'id') == id then call('DEL', key) end
    call('DEL', J(id), E(id))
    call('ZREM', P .. 'finished', id)
    call('HDEL', P .. 'sizes', id)
    call('DECRBY', P .. 'bytes', size)
end

-- owner id...: what became of a batch's jobs; at most 16 results at a time, the others look unfinished
function op.collect(owner, ...)
    local out, room = {}, 16
    for _, id in ipairs({...}) do
        local j = get(id, 'owner', 'state', 'reason', 'code', 'detail', 'problem')
        if j[1] ~= owner then
            out[#out + 1] = {'none'}
        elseif j[2] == 'succeeded' and room > 0 then
            room = room - 1
            out[#out + 1] = {j[2], call('HGET', J(id), 'result')}
        elseif j[2] == 'failed' or j[2] == 'canceled' then
            out[#out + 1] = {j[2], j[3], j[4], j[5], j[6]}
        else
            out[#out + 1] = {'open'}
        end
    end
    return out
end

-- owner id...: ended jobs whose results are not wanted any more
function op.forget(owner, ...)
    for _, id in ipairs({...}) do
        local j = get(id, 'owner', 'state')
        if j[1] == owner and ended(j[2]) then
            forget(id)
            call('DEL', P .. 'x:' .. id)
        end
    end
    return {'ok'}
end

-- Waiting jobs of models that no process has run for a while.
local function sweep_orphans(lease, patience, age)
    for _, sha in ipairs(call('SMEMBERS', P .. 'models')) do
        local workers, since = P .. 'workers:' .. sha, call('HGET', P .. 'orphans', sha)
        call('ZREMRANGEBYSCORE', workers, '-inf', now - 1)
        if call('ZCARD', workers) > 0 then
            if since then call('HDEL', P .. 'orphans', sha) end
        elseif not since then
            call('HSET', P .. 'orphans', sha, now)
        else
            if call('EXISTS', P .. 'claims:' .. sha) == 1 then take_over(sha, 'sweep', lease, age) end
            for _ = 1, now - since > patience and 200 or 0 do
                local id = next_of(sha)
                if not id then
                    if call('XLEN', P .. 'claims:' .. sha) == 0 then
                        call('SREM', P .. 'models', sha)
                        call('HDEL', P .. 'orphans', sha)
                        call('DEL', P .. 'claims:' .. sha, P .. 'clock:' .. sha)
                    end
                    break
                end
                if call('HGET', J(id), 'state') == 'queued' then
                    finish_failed(id, 'no-worker', 'no worker has the bundle with SHA-256 ' .. sha ..
                        ' any more: send the request again', age)
                end
            end
        end
    end
end

-- lease age count bytes patience
function op.sweep(lease, age, count, bytes, patience)
    local limit, finished = {'LIMIT', 0, 200}, P .. 'finished'
    for _, id in ipairs(call('ZRANGEBYSCORE', P .. 'waiting', '-inf', now, unpack(limit))) do
        local j = get(id, 'sha', 'client', 'state')
        if j[3] == '' then
            call('ZREM', P .. 'waiting', id)
        elseif unqueue(id, j[1], j[2]) then
            finish_canceled(id, 'deadline', age)
        end
    end
    for _, id in ipairs(call('ZRANGEBYSCORE', finished, '-inf', now - age * 1000, unpack(limit))) do
        forget(id)
    end
    for _ = 1, 200 do
        if call('ZCARD', finished) <= tonumber(count) and
           tonumber(call('GET', P .. 'bytes') or 0) <= tonumber(bytes) then break end
        local oldest = call('ZRANGE', finished, 0, 0)[1]
        if not oldest then break end
        forget(oldest)
    end
    sweep_orphans(tonumber(lease), tonumber(patience), age)
    local workers, running = 0, 0
    for _, sha in ipairs(call('SMEMBERS', P .. 'models')) do
        workers = workers + call('ZCOUNT', P .. 'workers:' .. sha, now, '+inf')
        running = running + call('XLEN', P .. 'claims:' .. sha)
    end
    return {tostring(call('ZCARD', P .. 'waiting')), tostring(running), tostring(workers),
            tostring(canceled.deadline), tostring(canceled.disconnect), tostring(canceled.client)}
end

-- A full server refuses writes that may need memory, unless the script has written before. These
-- must pass: they end jobs, which frees memory, or keep claims from being taken for dead.
local always = {claim = true, beat = true, start = true, finish = true, release = true, cancel = true,
                leave = true, sweep = true, forget = true}
local name = ARGV[1]
if always[name] then call('DEL', P .. 'none') end
if not op[name] then return redis.error_reply('ERR unknown operation ' .. tostring(name)) end
return op[name](unpack(ARGV, 2))
