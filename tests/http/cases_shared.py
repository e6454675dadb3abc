"""Several processes over one Redis: --store redis+unix://… under kills, pauses, lost memory, and replicas."""
import contextlib, http.client, os, random, signal, struct, subprocess, tempfile, threading, time

import lib
from lib import Redis, Server, events, picture, until

ASYNC = {"Prefer": "respond-async"}
KILLED = -signal.SIGKILL


@contextlib.contextmanager
def cluster(*, workers=1, apis=1, redis=None, flags=(), step_ms=5, gate=False):
    """(redis, [api…], [worker…]) over one database; with a gate, one that all workers share."""
    with contextlib.ExitStack() as stack:
        redis = redis or lib.shared_redis()
        store = ["--store", redis.url(), *flags]
        work = [stack.enter_context(Server("--role", "work", "--workers", "1", *store, step_ms=step_ms,
                                           gate=gate)) for _ in range(workers)]
        api = [stack.enter_context(Server("--role", "api", *store)) for _ in range(apis)]
        yield redis, api, work


def accept(server, seed=0, value=0, steps=2, headers=None, **more):
    r = server.post(f"do.digit=8&seed={seed}&sampler=obelm&steps={steps}",
                    dict(ASYNC, **(headers or {})), picture(value), **more)
    assert r.status == 202, (r.status, r.body)
    return r.json["id"]


def ended(server, job):
    def state():
        r = server.get("/jobs/" + job)
        return r.json if r.status == 200 and r.json["status"] in ("succeeded", "failed", "canceled") else None
    return until(state, f"job {job} ends")


def kill(server):
    server.expect = KILLED
    server.process.kill()
    server.process.wait()


def database(server):
    return int(server.flags[server.flags.index("--store") + 1].rpartition("=")[2])


def test_replicas_share_jobs_results_and_keys():
    key = {"Idempotency-Key": "once"}
    with cluster(apis=2) as (redis, (a, b), _):
        first = a.post("do.digit=8&seed=1", key, picture(3))
        assert first.status == 200, first.body
        job = first.json["id"]
        assert b.get("/jobs/" + job).json["result"] == first.json
        picture_a = a.get(f"/jobs/{job}/images/counterfactual-0.png")
        picture_b = b.get(f"/jobs/{job}/images/counterfactual-0.png")
        assert picture_a.body == picture_b.body and picture_b.status == 200
        assert b.post("do.digit=8&seed=1", key, picture(3)).body == first.body
        assert b.metric("diffscm_idempotent_hits_total") == 1
        b.post("do.digit=8&seed=2", key, picture(3)).problem(422, "idempotency-mismatch")
        bad = a.post("do.digit=8&seed=666", ASYNC, picture(3)).json["id"]
        assert ended(b, bad)["problem"] == ended(a, bad)["problem"]
        b.get("/jobs/" + "0" * 32).problem(404, "not-found")
        b.get("/jobs/" + job + "0").problem(404, "not-found")


def test_a_stream_goes_on_at_another_replica():
    with cluster(apis=2, gate=True) as (_, (a, b), (w,)):
        job = accept(a, steps=30)
        a.wait_state(job, "running")
        seen = []
        c = http.client.HTTPConnection("127.0.0.1", a.port, timeout=lib.PATIENCE)
        c.request("GET", f"/jobs/{job}/events")
        r = c.getresponse()
        while len(seen) < 2:
            block = b""
            while not block.endswith(b"\n\n"):
                block += r.read(1)
            seen += events(block)
        kill(a)
        c.close()
        w.open_gate()
        ended(b, job)
        rest = events(b.get(f"/jobs/{job}/events", {"Last-Event-ID": str(seen[-1][0])}).body)
        whole = events(b.get(f"/jobs/{job}/events").body)
        ids = [e[0] for e in whole]
        assert [e[0] for e in seen + rest] == ids == sorted(set(ids)), (seen, rest, whole)
        assert [e[1] for e in whole[:2]] == ["queued", "started"] and whole[-1][1] == "succeeded", whole


def test_a_waiting_request_hears_from_another_process():
    with cluster(apis=2) as (_, (a, b), _):
        assert a.post("do.digit=8&seed=1").status == 200
        stream = b.post("do.digit=8&seed=2", {"Accept": "text/event-stream"})
        assert [e[1] for e in events(stream.body)][-1] == "succeeded", stream.body
        png = b.post("do.digit=8&seed=3", {"Accept": "image/png"})
        assert png.headers["content-type"] == "image/png" and png.body.startswith(b"\x89PNG")


def test_a_cancel_reaches_the_worker_and_leaves_nothing_behind():
    with cluster(apis=2, gate=True) as (redis, (a, b), (w,)):
        running = accept(a, steps=50)
        queued = accept(a, value=1)
        a.wait_state(running, "running")
        db = database(a)
        assert b.get("/jobs/" + queued).json["queue_position"] == 0
        for job in (queued, running):
            assert b.call("DELETE", "/jobs/" + job).json["status"] == "canceled"
            assert ended(a, job)["reason"] == "client"
            assert redis.call("HEXISTS", f"diffscm:j:{job}", "request", db=db) == "0"
            assert int(redis.call("TTL", f"diffscm:j:{job}", db=db)) > 0
        until(lambda: w.metric("diffscm_workers_busy") == 0, "the worker is free")
        assert redis.call("XLEN", "diffscm:claims:" + "0" * 64, db=db) == "0"
        b.call("DELETE", "/jobs/" + running)  # canceled already: no conflict
        assert redis.call("EXISTS", "diffscm:waiting", "diffscm:clients", db=db) == "0"


def test_a_client_that_leaves_cancels_at_the_worker():
    with cluster(gate=True) as (_, (a,), (w,)):
        c = http.client.HTTPConnection("127.0.0.1", a.port)
        c.request("POST", "/counterfactual?do.digit=8&steps=50", picture(), {"Content-Type": "image/png"})
        until(lambda: w.metric("diffscm_jobs_started_total") == 1, "the job runs")
        c.close()
        w.wait_metric('diffscm_jobs_ended_total{state="canceled",reason="disconnect"}', 1)


def test_abductions_are_shared():
    with cluster(apis=2, workers=2) as (_, (a, b), ws):
        ask = {"intervention": {"digit": 8}, "options": {"sampler": "obelm", "steps": 4, "ratio": 1}}
        kept = a.post("sampler=obelm&steps=4&ratio=1", None, picture(9), "/abductions").json["abduction"]["id"]
        for server in (a, b, a, b):
            r = server.post_json(dict(ask, abduction=kept))
            assert r.status == 200 and r.json["abduction"]["id"] == kept, r.body
        b.post_json(dict(ask, abduction=kept, options=dict(ask["options"], steps=5))).problem(
            422, "invalid-parameter")
        assert b.call("DELETE", "/abductions/" + kept).status == 204
        a.post_json(dict(ask, abduction=kept)).problem(422, "unknown-abduction")
        a.call("DELETE", "/abductions/" + kept).problem(404, "not-found")


def test_bound_and_share_hold_over_all_replicas():
    flags = ("--queue-capacity", "4", "--client-share", "50", "--trusted-proxy")
    with cluster(apis=2, flags=flags, gate=True) as (_, (a, b), (w,)):
        one, two, three = ({"X-Forwarded-For": f"10.0.0.{i}"} for i in (1, 2, 3))
        first = accept(a, headers=one)
        a.wait_state(first, "running")
        for server in (a, b):
            accept(server, value=1, headers=one)
        r = b.post("do.digit=8", dict(ASYNC, **one))
        r.problem(429, "queue-full")
        assert "share" in r.text or "client" in r.text and int(r.headers["retry-after"]) >= 1, r.text
        for server in (a, b):
            accept(server, value=2, headers=two)
        a.post("do.digit=8", dict(ASYNC, **three)).problem(429, "queue-full")
        until(lambda: b.metric("diffscm_queue_depth") == 4, "the depth is known")
        w.open_gate()
        until(lambda: a.metric("diffscm_queue_depth") == 0, "all were run")


def test_what_a_clients_jobs_may_cost_holds_over_all_replicas():
    flags = ("--client-cost", "300", "--batch", "1", "--trusted-proxy")  # a job of n steps costs 5.5 n
    one, other = {"X-Forwarded-For": "10.0.0.1"}, {"X-Forwarded-For": "10.0.0.2"}
    with cluster(apis=2, flags=flags, gate=True) as (redis, (a, b), (w,)):
        running = accept(a, steps=20, headers=one)
        a.wait_state(running, "running")
        waiting = accept(b, value=1, steps=20, headers=one)
        for server in (a, b):
            r = server.post("do.digit=8&sampler=obelm&steps=20", dict(ASYNC, **one), picture(2))
            assert "your jobs" in r.problem(429, "queue-full")["detail"] and "allowed are 300" in r.text, r.text
            assert int(r.headers["retry-after"]) >= 1
            accept(server, value=3, steps=20, headers=other)
        assert b.call("DELETE", "/jobs/" + waiting).json["status"] == "canceled"
        again = accept(a, value=4, steps=20, headers=one)  # what was canceled costs nothing more
        w.open_gate()
        ended(a, again)
        big = accept(b, value=5, steps=100, headers=one)  # a client without any may have a larger one
        ended(a, big)
        assert redis.call("KEYS", "diffscm:costs:*", db=database(a)) == ""


def test_clients_take_turns():
    flags = ("--trusted-proxy", "--batch", "1")
    with cluster(apis=2, flags=flags, gate=True) as (redis, (a, b), (w,)):
        many, few = {"X-Forwarded-For": "10.0.0.1"}, {"X-Forwarded-For": "10.0.0.2"}
        blocker = accept(a, headers=many)
        a.wait_state(blocker, "running")
        jobs = [accept(a, value=i, steps=3, headers=many) for i in range(6)]
        late = accept(b, value=9, headers=few)
        assert a.get("/jobs/" + late).json["queue_position"] <= 1
        w.open_gate()
        ended(b, late)
        waiting = [j for j in jobs if a.get("/jobs/" + j).json["status"] == "queued"]
        assert len(waiting) >= 3, waiting


def test_jobs_that_an_older_program_queued_are_run():
    """It kept clients in a list, in turn, and no cost of jobs."""
    with cluster(flags=("--batch", "1"), gate=True) as (redis, (a,), (w,)):
        blocker = accept(a)
        a.wait_state(blocker, "running")
        jobs, db, sha = [accept(a, value=i, steps=3) for i in range(2)], database(a), "0" * 64
        client = redis.call("HKEYS", "diffscm:clients", db=db)
        assert redis.call("ZREM", "diffscm:turns:" + sha, client, db=db) == "1"
        redis.call("RPUSH", "diffscm:ring:" + sha, client, db=db)
        for job in jobs:
            assert redis.call("HDEL", f"diffscm:j:{job}", "cost", db=db) == "1"
        w.open_gate()
        assert [ended(a, job)["status"] for job in jobs] == ["succeeded"] * 2
        assert redis.call("EXISTS", "diffscm:ring:" + sha, "diffscm:turns:" + sha, "diffscm:waiting", db=db) == "0"


def test_a_dead_workers_jobs_are_taken_over():
    with cluster(workers=2, flags=("--claim-ms", "1500"), gate=True) as (redis, (a,), ws):
        job = accept(a, steps=20)
        a.wait_state(job, "running")
        dead = next(w for w in ws if w.metric("diffscm_workers_busy") == 1)
        alive = next(w for w in ws if w is not dead)
        alive.open_gate()
        kill(dead)
        assert ended(a, job)["status"] == "succeeded"
        seen = events(a.get(f"/jobs/{job}/events").body)
        assert [e[1] for e in seen].count("started") == 2 and seen[-1][1] == "succeeded", seen
        assert [e[0] for e in seen] == sorted({e[0] for e in seen})
        assert [e[0] for e in seen if e[1] == "started"][1] == 1000001, seen
        assert redis.call("HMGET", f"diffscm:j:{job}", "starts", "deaths", db=database(a)).split() == ["2", "1"]
        assert alive.metric("diffscm_takeovers_total") == 1


def test_a_worker_that_wakes_late_changes_nothing():
    with cluster(workers=2, flags=("--claim-ms", "1500"), gate=True) as (redis, (a,), ws):
        job = accept(a, steps=20)
        a.wait_state(job, "running")
        asleep = next(w for w in ws if w.metric("diffscm_workers_busy") == 1)
        alive = next(w for w in ws if w is not asleep)
        alive.open_gate()
        asleep.process.send_signal(signal.SIGSTOP)
        result = ended(a, job)
        told = events(a.get(f"/jobs/{job}/events").body)
        asleep.process.send_signal(signal.SIGCONT)
        asleep.open_gate()
        until(lambda: asleep.metric("diffscm_workers_busy") == 0, "the late one stops")
        asleep.wait_metric("diffscm_claims_lost_total", 1)
        assert a.get("/jobs/" + job).json == result
        assert events(a.get(f"/jobs/{job}/events").body) == told
        assert redis.call("HGET", f"diffscm:j:{job}", "run", db=database(a)) == "2"


def test_a_stopped_worker_gives_its_jobs_back():
    with cluster(workers=1, flags=("--drain-s", "0"), gate=True) as (redis, (a,), (w,)):
        jobs = [accept(a, value=i, steps=2 + i) for i in range(3)]
        a.wait_state(jobs[0], "running")
        assert w.stop() == 0
        db = database(a)
        for job in jobs:
            state, deaths = redis.call("HMGET", f"diffscm:j:{job}", "state", "deaths", db=db).split()
            assert (state, deaths) == ("queued", "0"), (state, deaths)
        a.post("do.digit=8", ASYNC).problem(503, "no-worker")
        with Server("--role", "work", *a.flags[2:]):
            assert [ended(a, j)["status"] for j in jobs] == ["succeeded"] * 3


def test_a_job_that_kills_workers_ends_with_the_reason():
    store = ["--store", lib.shared_redis().url(), "--claim-ms", "500"]
    with Server("--role", "api", *store) as a, contextlib.ExitStack() as stack:
        first = stack.enter_context(Server("--role", "work", "--workers", "2", *store, gate=True))
        good = [accept(a, value=i, steps=3 + i) for i in range(3)]
        bad = accept(a, seed=667, value=9)
        first.expect = None
        first.open_gate()
        first.process.wait()
        for _ in range(12):
            try:
                with Server("--role", "work", "--workers", "2", *store) as w:
                    w.expect = None
                    until(lambda: w.process.poll() is not None or
                          a.get("/jobs/" + bad).json["status"] == "failed", "an end of either")
                    if w.process.poll() is None:
                        assert all(ended(a, j)["status"] == "succeeded" for j in good)
                        break
            except AssertionError as error:  # it died before it could say that it is ready
                assert "did not start" in str(error), error
        state = a.get("/jobs/" + bad).json
        assert state["status"] == "failed" and state["problem"]["code"] == "job-crashed", state
        assert events(a.get(f"/jobs/{bad}/events").body)[-1][2]["code"] == "job-crashed"


def test_nobody_has_the_model():
    with cluster(workers=0) as (_, (a,), _):
        r = a.post()
        r.problem(503, "no-worker")
        assert "0" * 64 in r.text and int(r.headers["retry-after"]) >= 1, r.text


def test_jobs_of_a_model_that_nobody_runs_any_more_fail():
    with cluster(workers=1, flags=("--claim-ms", "200", "--no-worker-s", "1", "--drain-s", "0"),
                 gate=True) as (_, (a,), (w,)):
        jobs = [accept(a, value=i, steps=2 + i) for i in range(2)]
        a.wait_state(jobs[0], "running")
        assert w.stop() == 0
        for job in jobs:
            state = ended(a, job)
            assert state["status"] == "failed" and state["problem"]["code"] == "no-worker", state


def test_a_paused_store_is_told_and_waited_for():
    with Redis() as redis, cluster(redis=redis, flags=("--store-ms", "1000", "--claim-ms", "60000"), gate=True) as (_, (a,), (w,)):
        running = accept(a, steps=20)
        a.wait_state(running, "running")
        redis.process.send_signal(signal.SIGSTOP)
        w.open_gate()
        start = time.monotonic()
        r = a.post("do.digit=8&seed=2")
        took = time.monotonic() - start
        r.problem(503, "store-unavailable")
        assert int(r.headers["retry-after"]) >= 1 and took < 20, took
        a.get("/jobs/" + running).problem(503, "store-unavailable")
        assert a.admin("/livez").status == 200 and a.metric("diffscm_store_up") == 0
        redis.process.send_signal(signal.SIGCONT)
        assert ended(a, running)["status"] == "succeeded"
        until(lambda: a.post("do.digit=8&seed=3").status == 200, "it works again")
        assert redis.call("HGET", f"diffscm:j:{running}", "starts", db=database(a)) == "1"
        assert a.metric("diffscm_store_up") == 1


def test_a_store_that_comes_back_empty():
    with Redis() as redis, cluster(redis=redis, gate=True) as (_, (a,), (w,)):
        running = accept(a, steps=20)
        a.wait_state(running, "running")
        replies = []
        waits = threading.Thread(target=lambda: replies.append(a.post("do.digit=8&seed=2")))
        waits.start()
        until(lambda: a.metric("diffscm_jobs_accepted_total") == 2, "the second job")
        redis.kill()
        redis.start()
        waits.join()
        replies[0].problem(503, "store-unavailable")
        lost = until(lambda: a.get("/jobs/" + running), "an answer")
        assert lost.status == 404 or lost.json["problem"]["code"] == "store-unavailable", lost.body
        w.open_gate()
        until(lambda: a.post("do.digit=8&seed=3").status == 200, "it works again")
        until(lambda: w.metric("diffscm_workers_busy") == 0, "the worker is free")
        assert w.metric("diffscm_claims_lost_total") >= 1


def test_a_store_whose_clock_jumps():
    with tempfile.TemporaryDirectory(prefix="diffscm-clock-") as folder:
        library, offset_file = folder + "/clock.so", folder + "/offset"
        here = os.path.dirname(os.path.abspath(__file__))
        subprocess.run(["cc", "-std=c11", "-D_GNU_SOURCE", "-O1", "-shared", "-fPIC", here + "/clock.c", "-o", library],
                       check=True)

        def jump(seconds):
            with open(offset_file, "r+b" if os.path.exists(offset_file) else "wb") as file:
                file.write(struct.pack("=q", seconds))
        jump(0)
        with Redis(env={"LD_PRELOAD": library, "CLOCK_OFFSET": offset_file}) as redis, \
                cluster(redis=redis, workers=2, flags=("--claim-ms", "2500"), gate=True) as (_, (a,), ws):
            for turn, offset in enumerate((300, -300, 0)):
                job = accept(a, value=turn, steps=5)
                a.wait_state(job, "running")
                before = int(redis.call("TIME").split()[0])
                jump(offset)
                until(lambda: abs(int(redis.call("TIME").split()[0]) - before) > 200, "the clock jumps")
                time.sleep(2.8)  # longer than a claim lasts
                state = a.get("/jobs/" + job).json
                assert state["status"] == "running", (offset, state["status"])
                for w in ws:
                    w.open_gate()
                state = ended(a, job)
                assert state["status"] == "succeeded", state
                db = database(a)
                assert redis.call("HMGET", f"diffscm:j:{job}", "deaths", "run", db=db).split() == ["0", "1"], \
                    "nobody took it over"
                assert [e[1] for e in events(a.get(f"/jobs/{job}/events").body)].count("succeeded") == 1
                for w in ws:
                    w.close_gate()
            for w in ws:
                w.open_gate()
            until(lambda: a.post("do.digit=8&seed=3").status == 200, "it works on")


def test_a_full_store_refuses_and_lets_jobs_end():
    with Redis("--maxmemory-policy", "noeviction") as redis, \
            cluster(redis=redis, gate=True) as (_, (a,), (w,)):
        running = accept(a, steps=5)
        a.wait_state(running, "running")
        redis.call("CONFIG", "SET", "maxmemory", "1mb")
        r = a.post("do.digit=8&seed=2")
        r.problem(503, "store-unavailable")
        assert int(r.headers["retry-after"]) >= 1
        w.open_gate()
        assert ended(a, running)["status"] == "succeeded"
        redis.call("CONFIG", "SET", "maxmemory", "0")
        until(lambda: a.post("do.digit=8&seed=3").status == 200, "it works again")


def test_a_store_that_cannot_write_its_disk():
    with Redis("--enable-protected-configs", "yes") as redis, \
            cluster(redis=redis) as (_, (a,), _):
        assert a.post("do.digit=8&seed=1").status == 200
        assert redis.call("CONFIG", "SET", "dir", "/proc") == "OK"  # where nothing can be saved
        redis.call("CONFIG", "SET", "save", "1 1")
        redis.call("BGSAVE")
        until(lambda: "rdb_last_bgsave_status:err" in redis.call("INFO", "persistence"), "the failure is known")
        r = until(lambda: (lambda v: v if v.status == 503 else None)(a.post("do.digit=8&seed=3")),
                  "a refusal")
        # Workers cannot say that they are alive either.
        assert r.json["code"] in ("store-unavailable", "no-worker"), r.body
        assert int(r.headers["retry-after"]) >= 1 and a.admin("/livez").status == 200
        redis.call("CONFIG", "SET", "stop-writes-on-bgsave-error", "no")
        until(lambda: a.post("do.digit=8&seed=4").status == 200, "it works again")


def test_addresses_that_are_no_store_are_refused():
    for value, words in [("redis://", "allowed are"), ("redis://h:0", "allowed are"),
                         ("redis://h/x", "allowed are"), ("redis://u:secret@h", "store-password-file"),
                         ("rediss://h", "tunnel"), ("redis+unix://relative", "allowed are"),
                         ("redis+unix:///nowhere/redis.sock", "cannot connect"),
                         ("redis://127.0.0.1:1", "cannot connect")]:
        r = subprocess.run([lib.PROGRAM, "--serve", "--port", "0", "--admin-port", "0", "--store", value],
                           capture_output=True, text=True)
        assert r.returncode == 1 and words in r.stderr and "secret" not in \
            r.stderr.replace(value, ""), (value, r.stderr)
    for flags, words in [(["--role", "api"], "needs a store"), (["--role", "x"], "allowed are both")]:
        r = subprocess.run([lib.PROGRAM, "--serve", *flags], capture_output=True, text=True)
        assert r.returncode == 1 and words in r.stderr, (flags, r.stderr)


def test_a_password_comes_from_a_file():
    with Redis("--requirepass", "open sesame") as redis:
        path = redis.folder.name + "/password"
        with open(path, "w") as file:
            file.write("open sesame\n")
        with Server("--store", redis.url(), "--store-password-file", path) as s:
            assert s.post().status == 200
        r = subprocess.run([lib.PROGRAM, "--serve", "--port", "0", "--admin-port", "0", "--store", redis.url()],
                           capture_output=True, text=True)
        assert r.returncode == 1 and "NOAUTH" in r.stderr, r.stderr


def test_a_user_with_few_rights_suffices():
    with Redis() as redis, tempfile.NamedTemporaryFile("w", suffix=".password") as file:
        file.write("secret\n")
        file.flush()
        assert redis.call("ACL", "SETUSER", "worker", "on", ">secret", "~diffscm:*", "&diffscm:*", "+@all",
                          "-@admin", "-@dangerous") == "OK"
        port = lib.free_port()
        redis.call("CONFIG", "SET", "bind", "127.0.0.1")
        assert redis.call("CONFIG", "SET", "port", str(port)) == "OK"
        with Server("--store", f"redis://worker@127.0.0.1:{port}/3", "--store-password-file", file.name) as s:
            assert s.post().status == 200
            job = accept(s)
            assert ended(s, job)["status"] == "succeeded"
            assert redis.call("EXISTS", f"diffscm:j:{job}", db=3) == "1"


class Batch:
    """diffscm counterfactual --images over a store, with the engine and models/mnist."""

    def __init__(self, folder, count):
        self.program = os.path.join(os.path.dirname(lib.PROGRAM), "../../diffscm")
        self.folder, self.count, draw = folder, count, random.Random(1)
        with open(folder + "/images", "wb") as file:
            file.write(struct.pack(">IIII", 0x803, count, 28, 28) +
                       bytes(draw.randrange(256) for _ in range(count * 28 * 28)))
        with open(folder + "/labels", "wb") as file:
            file.write(struct.pack(">II", 0x801, count) + bytes(i % 10 for i in range(count)))
        with open(folder + "/do.csv", "w") as file:
            file.write("digit\n" + "".join(f"{i % 10}\n" for i in range(count)))

    def command(self, out, *flags, targets=("--targets", "labels")):
        return [self.program, "counterfactual", "--images", "images", *targets, "--steps", "2", "--scale", "1",
                "--out", out, *flags]

    def run(self, out, *flags, **more):
        return subprocess.run(self.command(out, *flags, **more), cwd=self.folder, capture_output=True, text=True)

    def start(self, out, *flags):
        return subprocess.Popen(self.command(out, *flags), cwd=self.folder, stderr=subprocess.DEVNULL)

    def read(self, name):
        with open(os.path.join(self.folder, name), "rb") as file:
            return file.read()

    def kept(self, out):
        path = os.path.join(self.folder, out + ".part")
        return (os.path.getsize(path) - 48) // 808 if os.path.exists(path) else 0

    def worker(self, url, *flags, **more):
        return Server("--role", "work", "--store", url, "--models", "mnist", "--workers", "1", "--batch", "1", *flags,
                      program=[self.program, "serve"], **more)


def test_a_batch_goes_on_after_a_kill_and_ends_with_the_same_bytes():
    redis = lib.shared_redis()
    url = redis.url()
    db = int(url.rpartition("=")[2])
    with tempfile.TemporaryDirectory(prefix="diffscm-batch-") as folder:
        batch = Batch(folder, 8)
        alone = batch.run("alone")
        assert alone.returncode == 0, alone.stderr
        store = ("--store", url)
        with batch.worker(url) as w:
            first = batch.start("out", *store)
            until(lambda: batch.kept("out") >= 2, "results are kept")
            first.kill()
            first.wait()
            kept = batch.kept("out")
            redis.call("FLUSHDB", db=db)  # and the store lost everything meanwhile
            until(lambda: redis.call("ZCARD", "diffscm:workers:" +
                                     batch_model(redis, db), db=db) == "1", "the worker is heard again")
            w.wait_metric("diffscm_workers_busy", 0)
            done = w.metric("diffscm_jobs_started_total")
            second = batch.run("out", *store)
            assert second.returncode == 0 and "images are in out.part already" in second.stderr, second.stderr
            assert batch.read("out") == batch.read("alone")
            assert not os.path.exists(folder + "/out.part")
            assert w.metric("diffscm_jobs_started_total") - done == 8 - kept
            assert not redis.call("KEYS", "diffscm:[jaex]:*", db=db), "collected jobs leave nothing behind"


def batch_model(redis, db):
    names = redis.call("KEYS", "diffscm:workers:*", db=db).split()
    return names[0].rpartition(":")[2] if names else ""


def test_a_batch_with_tables_and_scores():
    url = lib.shared_redis().url()
    with tempfile.TemporaryDirectory(prefix="diffscm-batch-") as folder:
        batch = Batch(folder, 3)
        tables = ("--do-file", "do.csv")
        assert batch.run("alone", "--parents", "p0", targets=tables).returncode == 0
        with batch.worker(url):
            r = batch.run("out", "--store", url, "--parents", "p1", targets=tables)
            assert r.returncode == 0, r.stderr
            assert batch.read("out") == batch.read("alone") and batch.read("p0") == batch.read("p1")
            r = batch.run("out", "--store", url, "--scores", "scores")
            assert r.returncode == 0, r.stderr
            lines = [lib.json.loads(line) for line in batch.read("scores").splitlines()]
            assert [line["index"] for line in lines] == [0, 1, 2] and lines[2]["counterfactuals"][0]["scores"]
            assert batch.run("null", "--null", targets=()).returncode == 0
            assert batch.run("out", "--store", url, "--null", targets=()).returncode == 0
            assert batch.read("out") == batch.read("null")


def test_a_batch_says_what_it_waits_for():
    redis = lib.shared_redis()
    url = redis.url()
    with tempfile.TemporaryDirectory(prefix="diffscm-batch-") as folder:
        batch = Batch(folder, 1)
        for flags, words in [(["--store", url, "--patience", "0"], "no worker runs the bundle"),
                             (["--store", "redis://127.0.0.1:1", "--patience", "0"], "cannot connect"),
                             (["--store", "sqlite:x"], "redis://HOST"),
                             (["--store", url, "--noise-only"], "do not go with --store"),
                             (["--patience", "3"], "go with --store")]:
            r = batch.run("out", *flags)
            assert r.returncode in (1, 2) and words in r.stderr, (flags, r.stderr)
        with open(folder + "/out.part", "w") as file:
            file.write("notes of somebody")
        r = batch.run("out", "--store", url)
        assert r.returncode == 1 and "is not an interrupted batch" in r.stderr, r.stderr
        assert batch.read("out.part") == b"notes of somebody"


def test_a_stopped_batch_cancels_its_jobs():
    redis = lib.shared_redis()
    url = redis.url()
    db = int(url.rpartition("=")[2])
    with tempfile.TemporaryDirectory(prefix="diffscm-batch-") as folder:
        batch = Batch(folder, 200)
        with batch.worker(url) as w:
            run = batch.start("out", "--store", url)
            until(lambda: batch.kept("out") >= 1, "a result is kept")
            run.terminate()
            assert run.wait() == 130
            until(lambda: redis.call("EXISTS", "diffscm:waiting", db=db) == "0", "nothing waits")
            w.wait_metric("diffscm_workers_busy", 0)
