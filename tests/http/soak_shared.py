"""A shared store under kills and load, for longer than a test run has time: make chaos."""
import contextlib, http.client, os, random, subprocess, tempfile, threading, time

import lib
from lib import Redis, Server, events, picture, until
from soak_kills import COMBINATIONS, query, quiet_results, without_run

ASYNC = {"Prefer": "respond-async"}
LIMITS = ["--queue-capacity", "4000", "--client-share", "100", "--deadline-ms", "3600000", "--jobs-max", "100000",
          "--jobs-age-s", "100000", "--client-cost", "0"]


class Fleet:
    """Services and workers over one Redis; any of them can be killed, and comes back."""

    def __init__(self, stack, redis, apis, workers, step_ms, flags=()):
        self.redis, self.stack, self.step_ms = redis, stack, step_ms
        self.store = ["--store", redis.url(), *LIMITS, *flags]
        self.roles = ["api"] * apis + ["work"] * workers
        self.ports = [lib.free_port() for _ in range(apis)]
        self.members = [None] * len(self.roles)
        for i in range(len(self.roles)):
            self.start(i)

    def start(self, index):
        port = ["--port", str(self.ports[index])] if index < len(self.ports) else ["--workers", "1"]
        for _ in range(40):  # Redis may just be coming back, which is found out at the start
            server = Server("--role", self.roles[index], *self.store, *port, step_ms=self.step_ms,
                            expect=None)
            try:
                self.members[index] = self.stack.enter_context(server)
                return
            except AssertionError as error:
                assert "store: " in str(error) or "Redis" in str(error), error
                time.sleep(.1)
        raise AssertionError("a process cannot be started again")

    def kill(self, index):
        self.members[index].process.kill()
        self.members[index].process.wait()


def call(port, method, path, body=None, headers=None, timeout=30):
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        c.request(method, path, body, headers or {})
        r = c.getresponse()
        return lib.Reply(r.status, r.getheaders(), r.read())
    finally:
        c.close()


def send_jobs(fleet, index, jobs, stop):
    """Each job with a key of its own, sent again until it is accepted: the key makes that safe."""
    for i in range(1000000):
        seed = index * 1000000 + i
        which = seed % COMBINATIONS
        for attempt in range(1000):
            if stop.is_set():
                return
            port = fleet.ports[(i + attempt) % len(fleet.ports)]
            try:
                r = call(port, "POST", query(which), picture(which),
                         dict(ASYNC, **{"Content-Type": "image/png", "Idempotency-Key": f"job {seed}"}))
            except (OSError, http.client.HTTPException):
                time.sleep(.02)
                continue
            if r.status == 202:
                jobs[seed] = r.json["id"]
                break
            assert r.status in (429, 503), (r.status, r.body)
            time.sleep(.05)
        time.sleep(.03)


STARTS = "local o={} for i=1,#ARGV do o[i]=redis.call('HGET','diffscm:j:'..ARGV[i],'starts') or '0' end return o"


def starts_of(redis, db, jobs):
    """How often each job was started."""
    seeds, counts = sorted(jobs), []
    for i in range(0, len(seeds), 500):
        counts += redis.call("EVAL", STARTS, "0", *(jobs[s] for s in seeds[i:i + 500]), db=db).split()
    return dict(zip(seeds, map(int, counts), strict=True))


def kills_with(fsync, kills):
    chance, jobs, stop = random.Random(kills), {}, threading.Event()
    folder_flags = ["--appendonly", "yes", "--appendfsync", fsync]
    counts = {"api": 0, "work": 0, "redis": 0}
    expected = quiet_results()
    with Redis(*folder_flags) as redis, contextlib.ExitStack() as stack:
        fleet = Fleet(stack, redis, 2, 2, 5, ["--claim-ms", "1000"])
        threads = [threading.Thread(target=send_jobs, args=(fleet, i, jobs, stop)) for i in range(4)]
        for t in threads:
            t.start()
        try:
            for turn in range(kills):
                time.sleep(chance.uniform(.1, .8))
                kind = chance.choice(sorted(counts))
                counts[kind] += 1
                if kind == "redis":
                    redis.kill()
                    redis.start()
                else:
                    victim = chance.choice([i for i, r in enumerate(fleet.roles) if r == kind])
                    fleet.kill(victim)
                    fleet.start(victim)
        finally:
            stop.set()
            for t in threads:
                t.join()
        api = fleet.members[0]
        crashed, lost = 0, []
        db = int(fleet.store[1].rpartition("=")[2])
        states = {}
        for seed, job in sorted(jobs.items()):
            def over():
                r = api.get("/jobs/" + job)
                # With everysec Redis answers before it has written while an earlier sync of a slow disk goes on.
                if r.status == 404 and fsync == "everysec":
                    return {"status": "lost"}
                assert r.status == 200, (seed, job, r.body)
                return r.json if r.json["status"] in ("succeeded", "failed", "canceled") else None
            state = until(over, f"job {job} ends")
            if state["status"] == "lost":
                lost.append(seed)
                continue
            assert state["status"] == "succeeded" or state["problem"]["code"] == "job-crashed", state
            crashed += state["status"] == "failed"
            states[seed] = state
            if state["status"] == "succeeded":
                result, image = expected[seed % COMBINATIONS]
                assert without_run(state["result"]) == result, seed
                assert api.get(f"/jobs/{job}/images/counterfactual-0.png").body == image, seed
            seen = events(api.get(f"/jobs/{job}/events").body)
            assert [e[1] for e in seen].count("succeeded") <= 1 and seen[-1][1] == state["status"], seen
            assert [e[0] for e in seen] == sorted({e[0] for e in seen}), seen
        assert len(lost) <= 20 * counts["redis"], (len(lost), counts)  # those of two seconds each
        starts = starts_of(redis, db, states and {s: jobs[s] for s in states})
    interrupted = sum(1 for n in starts.values() if n > 1)
    often = sum(1 for n in starts.values() if n > 2)
    print(f"  appendfsync {fsync}: {kills} kills ({counts}), {len(jobs)} accepted, {len(lost)} lost, all others ended, "
          f"{len(states) - crashed} with the result of a quiet run, {interrupted} "
          f"interrupted, {often} started three times or more, {crashed} given up after five", flush=True)
    assert len(jobs) > kills // 2 and (kills < 100 or often <= .05 * interrupted), (often, interrupted)


def test_kills_with_always_lose_nothing():
    kills_with("always", int(os.environ.get("CHAOS_KILLS", "20")) // 2)


def test_kills_with_everysec():
    kills_with("everysec", int(os.environ.get("CHAOS_KILLS", "20")) // 2)


NGINX = """daemon off; master_process off; pid {folder}/pid; error_log {folder}/error crit;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
    uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    upstream api {{ {servers} keepalive 32; }}
    server {{
        listen 127.0.0.1:{port};
        proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
        proxy_connect_timeout 1s; proxy_read_timeout 75s;
        proxy_next_upstream error timeout http_503 non_idempotent; proxy_next_upstream_tries 2;
        location / {{ proxy_pass http://api; }}
    }}
}}
"""


@contextlib.contextmanager
def nginx(ports):
    with tempfile.TemporaryDirectory(prefix="diffscm-nginx-") as folder:
        port = lib.free_port()
        servers = " ".join(f"server 127.0.0.1:{p} max_fails=1 fail_timeout=1s;" for p in ports)
        with open(folder + "/nginx.conf", "w") as file:
            file.write(NGINX.format(folder=folder, servers=servers, port=port))
        process = subprocess.Popen(["nginx", "-p", folder, "-c", folder + "/nginx.conf"],
                                   stderr=subprocess.DEVNULL)
        try:
            until(lambda: call(port, "GET", "/models").status == 200, "nginx answers")
            yield port
        finally:
            process.terminate()
            process.wait()


class Caller(threading.Thread):
    """Calls that wait for their result, each tried once more when it fails."""

    def __init__(self, port, index, stop):
        super().__init__()
        self.port, self.index, self.stop_event = port, index, stop
        self.calls = self.retried = self.failed = 0
        self.last = ""

    def once(self, seed):
        try:
            r = call(self.port, "POST", f"/counterfactual?do.digit=8&seed={seed}&sampler=obelm&steps=20",
                     picture(seed % 200), {"Content-Type": "image/png", "Prefer": "wait=60",
                                           "Idempotency-Key": f"call {seed}"}, timeout=90)
        except (OSError, http.client.HTTPException) as error:
            self.last = repr(error)
            return False
        self.last = f"{r.status} {r.body[:200]}"
        return r.status == 200

    def run(self):
        while not self.stop_event.is_set():
            seed = self.index * 1000000 + self.calls
            self.calls += 1
            if self.once(seed):
                continue
            self.retried += 1
            time.sleep(1)  # what Retry-After says at least
            if not self.once(seed):
                self.failed += 1
                print("  failed twice: " + self.last, flush=True)


class Watcher(threading.Thread):
    """Streams of events, resumed wherever the proxy leads when they break."""

    def __init__(self, port, stop):
        super().__init__()
        self.port, self.stop_event = port, stop
        self.streams = self.resumed = 0
        self.faults = []

    def follow(self, job):
        ids, last, kinds = [], 0, []
        for attempt in range(60):
            try:
                raw = call(self.port, "GET", f"/jobs/{job}/events", None,
                           {"Last-Event-ID": str(last)} if last else {}, timeout=60)
                seen = events(raw.body) if raw.status == 200 else []
            except http.client.IncompleteRead as broken:
                whole = broken.partial[:broken.partial.rfind(b"\n\n") + 2]
                seen = events(whole)
                self.resumed += 1
            except (OSError, http.client.HTTPException):
                seen = []
            ids += [e[0] for e in seen]
            kinds += [e[1] for e in seen]
            last = ids[-1] if ids else 0
            if kinds and kinds[-1] == "succeeded":
                break
            time.sleep(.2)
        if ids != sorted(set(ids)) or kinds.count("succeeded") != 1:
            self.faults.append((job, ids, kinds))

    def run(self):
        while not self.stop_event.is_set():
            seed = 900000000 + self.streams
            try:
                r = call(self.port, "POST", f"/counterfactual?do.digit=8&seed={seed}&sampler=obelm&steps=60",
                         picture(7), dict(ASYNC, **{"Content-Type": "image/png"}))
            except (OSError, http.client.HTTPException):
                continue
            if r.status != 202:
                time.sleep(.5)
                continue
            self.streams += 1
            self.follow(r.json["id"])


def test_replicas_behind_nginx_with_a_kill_every_ten_seconds():
    seconds = int(os.environ.get("CHAOS_SECONDS", "30"))
    chance, stop, kills = random.Random(seconds), threading.Event(), 0
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(Redis("--appendonly", "yes"))
        fleet = Fleet(stack, redis, 2, 4, 5, ["--claim-ms", "2000"])
        port = stack.enter_context(nginx(fleet.ports))
        threads = [Caller(port, i, stop) for i in range(6)] + [Watcher(port, stop) for _ in range(2)]
        for t in threads:
            t.start()
        end = time.monotonic() + seconds
        try:
            while time.monotonic() < end:
                victim = chance.choice(range(len(fleet.roles)))
                fleet.kill(victim)
                time.sleep(1)
                fleet.start(victim)
                kills += 1
                time.sleep(max(0, min(9, end - time.monotonic())))
        finally:
            stop.set()
            for t in threads:
                t.join()
    calls = sum(t.calls for t in threads[:6])
    failed, retried = sum(t.failed for t in threads[:6]), sum(t.retried for t in threads[:6])
    streams = sum(t.streams for t in threads[6:])
    resumed, faults = sum(t.resumed for t in threads[6:]), sum((t.faults for t in threads[6:]), [])
    print(f"  {seconds} s, {kills} kills, {calls} calls, {retried} tried again, {failed} failed; {streams} "
          f"streams, {resumed} resumed, {len(faults)} with a gap or repeat", flush=True)
    assert failed <= calls * .001 and not faults, faults[:1]
