"""Routes, forms of reply, jobs, events, idempotency, cancelling, deadlines."""
import json, re, socket, threading, time

import lib
from lib import PATIENCE, Server, events, picture, picture64, status_of, until

SAME = "sampler=obelm&steps=4&ratio=1"


def test_raw_picture_gives_json_and_picture():
    with Server() as s:
        r = s.post()
        assert r.status == 200 and r.headers["content-type"] == "application/json", r.body
        assert r.json["id"] and r.json["abduction"]["id"]
        assert r.headers["cache-control"] == "no-store"
        assert r.headers["x-content-type-options"] == "nosniff"
        assert "total;dur=" in r.headers["server-timing"] or "queue" in r.headers["server-timing"]
        r = s.post(headers={"Accept": "image/png"}, path="/v1/counterfactual")
        assert r.status == 200 and r.body.startswith(b"\x89PNG"), r.body[:100]
        assert "x-counterfactual-l1" in r.headers, r.headers
        for dynamic in (True, False):
            r = s.post(f"do.digit=8&seed=77&sampler=published&dynamic={dynamic}".lower())
            replay = r.json["replay"]
            assert replay["seed"] == 77 and replay["dynamic"] is dynamic, replay


def test_json_request_and_fan():
    with Server() as s:
        r = s.post_json({"image": picture64(), "intervention": {"digit": 8}})
        assert r.status == 200, r.body
        r = s.post_json({"image": picture64(), "intervention": {"digit": "*"}})
        assert r.status == 200, r.body


def test_models_openapi_and_request_id():
    with Server() as s:
        assert s.get("/models").json["models"][0]["name"] == "fake"
        assert s.get("/models/fake").status == 200
        limits = s.get("/models").json["limits"]
        assert (limits["counterfactuals"], limits["samples"]) == (32, 16), limits
        assert limits["image_side"] == 1024 and limits["image_pixels"] >= 4624 * 3468, limits
        s.get("/models/none").problem(404, "not-found")
        assert s.get("/openapi.json").headers["content-type"] == "application/json"
        r = s.get("/v1/models", {"X-Request-Id": "abc-123"})
        assert r.headers["x-request-id"] == "abc-123"
        r = s.get("/models", {"X-Request-Id": "bad id \"<>"})
        assert re.fullmatch("[0-9a-f]{32}", r.headers["x-request-id"])
        r = s.get("/models", {"X-Request-Id": "n" * 64})
        assert r.headers["x-request-id"] == "n" * 64
        r = s.get("/models", {"X-Request-Id": "n" * 65})
        assert re.fullmatch("[0-9a-f]{32}", r.headers["x-request-id"])
        head = s.call("HEAD", "/models")
        assert head.status == 200 and head.body == b""


def test_unknown_path_and_method():
    with Server() as s:
        s.get("/nothing").problem(404, "not-found")
        s.get("/../../etc/passwd").problem(404, "not-found")
        r = s.get("/counterfactual")
        r.problem(405, "method-not-allowed")
        assert r.headers["allow"] == "POST"
        r = s.call("PUT", "/jobs/x")
        r.problem(405, "method-not-allowed")
        assert r.headers["allow"] == "GET, HEAD, DELETE"
        s.get("/jobs/" + "0" * 32).problem(404, "not-found")


def test_form_upload_gets_415_with_help():
    with Server() as s:
        p = s.post(headers={"Content-Type": "application/x-www-form-urlencoded"}).problem(
            415, "unsupported-media-type")
        assert "curl --data-binary" in p["detail"]
        s.post(headers={"Accept": "text/html"}).problem(406, "not-acceptable")
        raw = s.raw(b"POST /counterfactual HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert status_of(raw) == 411, raw


def test_async_job_and_result():
    with Server(gate=True) as s:
        r = s.post(headers={"Prefer": "respond-async"})
        assert r.status == 202 and r.headers["preference-applied"] == "respond-async"
        assert int(r.headers["retry-after"]) >= 1
        job = r.json["id"]
        assert r.headers["location"] == "jobs/" + job
        s.get(f"/jobs/{job}/images/counterfactual-0.png").problem(409, "conflict")
        s.wait_state(job, "running")
        until(lambda: s.get("/jobs/" + job).json["fraction"] > 0)
        s.open_gate()
        s.wait_state(job, "succeeded")
        done = s.get("/jobs/" + job).json
        assert done["result"]["id"] == job and "fraction" not in done
        image = s.get(f"/jobs/{job}/images/counterfactual-0.png")
        assert image.body.startswith(b"\x89PNG") and image.headers["etag"].startswith('"')
        again = s.get(f"/jobs/{job}/images/counterfactual-0.png",
                      {"If-None-Match": image.headers["etag"]})
        assert again.status == 304 and again.body == b""
        s.get(f"/jobs/{job}/images/other.png").problem(404, "not-found")
        s.call("DELETE", "/jobs/" + job).problem(409, "conflict")


def test_wait_runs_out_gives_202():
    with Server(gate=True) as s:
        r = s.post(headers={"Prefer": "wait=0"})
        assert r.status == 202, r.status
        s.open_gate()
        s.wait_state(r.json["id"], "succeeded")


def test_events_and_replay():
    with Server(step_ms=10) as s:
        job = s.post("do.digit=8&steps=20", {"Prefer": "respond-async"}).json["id"]
        live = events(s.get(f"/jobs/{job}/events").body)
        names = [name for _, name, _ in live]
        assert names[0] == "queued" and names[-1] == "succeeded" and "progress" in names, names
        ids = [i for i, _, _ in live]
        assert ids == sorted(ids)
        replay = events(s.get(f"/jobs/{job}/events", {"Last-Event-ID": str(ids[1])}).body)
        assert replay == [e for e in events(s.get(f"/jobs/{job}/events").body) if e[0] > ids[1]]
        assert replay[-1][1] == "succeeded" and replay[-1][2]["id"] == job
        assert events(s.get(f"/jobs/{job}/events", {"Last-Event-ID": str(ids[-1])}).body) == []
        assert events(s.get(f"/jobs/{job}/events", {"Last-Event-ID": "9" * 18}).body) == []
        for wrong in ("x", "-1", "1 2", "9" * 19, "9" * 40):
            s.get(f"/jobs/{job}/events", {"Last-Event-ID": wrong}).problem(400, "bad-header")


def test_previews_are_made_for_those_who_look():
    with Server() as s:
        job = s.post("do.digit=8&steps=50", {"Prefer": "respond-async"}).json["id"]
        s.wait_state(job, "succeeded")
        names = [name for _, name, _ in events(s.get(f"/jobs/{job}/events").body)]
        assert "progress" in names and "preview" not in names, names
    with Server("--workers", "1", gate=True) as s:
        job = s.post("do.digit=8&steps=70", {"Prefer": "respond-async"}).json["id"]
        with socket.create_connection(("127.0.0.1", s.port), timeout=PATIENCE) as c:
            c.sendall(b"GET /jobs/%s/events HTTP/1.1\r\nHost: x\r\n\r\n" % job.encode())
            got = b""
            while b"event: preview" not in got: # of the first step, before which the gate is shut
                piece = c.recv(65536)
                assert piece, got
                got += piece
        s.wait_metric("diffscm_streams", 0)
        s.open_gate()
        s.wait_state(job, "succeeded") # 140 steps of 5 ms on, a preview is due every 250 ms
        previews = [data for _, name, data in events(s.get(f"/jobs/{job}/events").body) if name == "preview"]
        if lib.STORE != "redis": # a worker elsewhere learns a moment later that nobody reads
            assert [p["step"] for p in previews] == [1], [p["step"] for p in previews]


def test_stream_of_the_post_itself():
    with Server() as s:
        r = s.post(headers={"Accept": "text/event-stream"})
        assert r.headers["content-type"] == "text/event-stream"
        assert r.headers["cache-control"] == "no-store"
        assert r.headers["x-accel-buffering"] == "no"
        assert events(r.body)[-1][1] == "succeeded"


def test_many_streams_of_one_job():
    with Server(step_ms=15) as s:
        job = s.post("do.digit=8&steps=20", {"Prefer": "respond-async"}).json["id"]
        out = []
        threads = [threading.Thread(
            target=lambda: out.append(events(s.get(f"/jobs/{job}/events").body)))
            for _ in range(70)]
        [t.start() for t in threads]
        [t.join() for t in threads]
        assert len(out) == 70 and all(o[-1][1] == "succeeded" for o in out)
        s.wait_metric("diffscm_streams", 0) # it ends in the server after its last bytes are here


def test_idempotency():
    with Server(step_ms=10) as s:
        key = {"Idempotency-Key": "k1", "Prefer": "respond-async"}
        a = s.post("do.digit=8", key).json["id"]
        b = s.post("do.digit=8", key).json["id"]
        assert a == b
        waited = s.post("do.digit=8", {"Idempotency-Key": "k1"})
        assert waited.status == 200 and waited.json["id"] == a
        s.post("do.digit=7", key).problem(422, "idempotency-mismatch")
        s.post("do.digit=8", key, body=picture(9)).problem(422, "idempotency-mismatch")
        assert s.metric("diffscm_jobs_accepted_total") == 1
        assert s.post("do.digit=8", {"Idempotency-Key": "x" * 255}).status == 200
        for wrong in ("x" * 256, ""):
            s.post("do.digit=8", {"Idempotency-Key": wrong}).problem(400, "bad-header")


def test_cancel_queued_and_running():
    with Server("--workers", "1", "--batch", "1", gate=True) as s:
        first = s.post("do.digit=8&seed=1", {"Prefer": "respond-async"}).json["id"]
        s.wait_state(first, "running")
        second = s.post("do.digit=7&seed=2", {"Prefer": "respond-async"}).json
        assert second["status"] == "queued"
        r = s.call("DELETE", "/jobs/" + second["id"])
        assert r.status == 200 and r.json["status"] == "canceled", r.body
        assert r.json["reason"] == "client"
        s.call("DELETE", "/jobs/" + first)
        s.wait_state(first, "canceled") # in the midst of its work: the gate is shut
        assert events(s.get(f"/jobs/{first}/events").body)[-1][1:] == \
            ("canceled", {"reason": "client"})
        assert s.call("DELETE", "/jobs/" + first).status == 200


def test_sync_request_hears_of_cancel():
    with Server("--workers", "1", gate=True) as s:
        out = []
        t = threading.Thread(target=lambda: out.append(s.post("do.digit=8&seed=3")))
        t.start()
        s.wait_metric("diffscm_workers_busy", 1)
        keyed = s.post("do.digit=8&seed=4", {"Idempotency-Key": "c", "Prefer": "respond-async"})
        s.call("DELETE", "/jobs/" + keyed.json["id"])
        s.post("do.digit=8&seed=4", {"Idempotency-Key": "c"}).problem(499, "canceled")
        s.open_gate()
        t.join()
        assert out[0].status == 200


def test_deadline_queued_and_running():
    with Server("--workers", "1", "--batch", "1", gate=True) as s: # nothing ends by itself
        start = time.time()
        s.post("do.digit=8&deadline_ms=200").problem(504, "deadline")
        assert time.time() - start > 0.15
        blocker = s.post("do.digit=8&seed=1", {"Prefer": "respond-async"}).json["id"]
        s.wait_state(blocker, "running")
        s.post("do.digit=7&deadline_ms=150").problem(504, "deadline")
        s.wait_metric('diffscm_jobs_ended_total{state="canceled",reason="deadline"}', 2)
        s.call("DELETE", "/jobs/" + blocker)


def test_what_a_request_may_ask_for_has_a_limit():
    with Server("--deadline-ms", "200", "--deadline-max-ms", "200", gate=True) as s:
        s.post("do.digit=8&deadline_ms=60000").problem(504, "deadline")
    with Server("--wait-s", "0", "--wait-max-s", "0", gate=True) as s:
        start = time.time()
        r = s.post(headers={"Prefer": "wait=60"})
        assert r.status == 202 and time.time() - start < 30, r.status
        s.call("DELETE", "/jobs/" + r.json["id"])


def test_late_jobs_keep_no_request():
    with Server("--workers", "1", "--batch", "1", gate=True) as s:
        s.post(headers={"Prefer": "respond-async"})
        late = [s.post("do.digit=8&deadline_ms=50", {"Prefer": "respond-async"}).json["id"]
                for _ in range(5)]
        for job in late:
            s.wait_state(job, "canceled")
        until(lambda: s.metric("diffscm_jobs_bytes") > 0)
        assert s.metric("diffscm_jobs_bytes") < 5 * 500, s.metric("diffscm_jobs_bytes")


def abandon(s, seed, headers=b""):
    """Sends a request and leaves without reading the reply, once the job is accepted."""
    body, before = picture(), s.metric("diffscm_jobs_accepted_total")
    c = socket.create_connection(("127.0.0.1", s.port))
    c.sendall(b"POST /counterfactual?do.digit=8&seed=%d HTTP/1.1\r\nHost: x\r\n%s"
              b"Content-Type: image/png\r\nContent-Length: %d\r\n\r\n" % (seed, headers, len(body))
              + body)
    s.wait_metric("diffscm_jobs_accepted_total", before + 1)
    s.wait_metric("diffscm_workers_busy", 1)
    c.close()


def test_disconnect_cancels_running_and_queued():
    canceled = 'diffscm_jobs_ended_total{state="canceled",reason="disconnect"}'
    with Server("--workers", "1", "--batch", "1", gate=True) as s:
        abandon(s, 21)
        s.wait_metric(canceled, 1)
        # What a replica knows of a job that another process runs may be a moment old.
        phases = ("running", "queued") if lib.STORE == "redis" else ("running",)
        assert sum(s.metric('diffscm_disconnects_total{phase="%s"}' % p) for p in phases) == 1
        blocker = s.post("do.digit=8&seed=22", {"Prefer": "respond-async"}).json["id"]
        s.wait_state(blocker, "running")
        abandon(s, 25, b"Idempotency-Key: stays\r\n")
        abandon(s, 23)
        abandon(s, 24, b"Accept: text/event-stream\r\n")
        s.wait_metric(canceled, 3)
        s.open_gate()
        s.wait_state(blocker, "succeeded") # nobody else's job is touched
        r = s.post("do.digit=8&seed=25", {"Idempotency-Key": "stays"})
        assert r.status == 200 and s.metric("diffscm_idempotent_hits_total") == 1
        assert s.metric(canceled) == 3


def test_who_leaves_a_stream_is_counted():
    with Server(gate=True) as s:
        job = s.post("do.digit=8", {"Prefer": "respond-async"}).json["id"]
        with socket.create_connection(("127.0.0.1", s.port)) as c:
            c.sendall(b"GET /jobs/%s/events HTTP/1.1\r\nHost: x\r\n\r\n" % job.encode())
            s.wait_metric("diffscm_streams", 1)
            assert c.recv(4096).startswith(b"HTTP/1.1 200")
        s.wait_metric("diffscm_streams", 0)
        s.wait_metric('diffscm_disconnects_total{phase="stream"}', 1)
        assert s.get("/jobs/" + job).json["status"] == "running"  # it was detached


def test_who_leaves_within_a_request_waited_for_nothing():
    with Server() as s:
        with socket.create_connection(("127.0.0.1", s.port)) as c:
            c.sendall(b"POST /counterfactual?do.digit=8 HTTP/1.1\r\nHost: x\r\n"
                      b"Content-Type: image/png\r\nContent-Length: 500\r\n"
                      b"Expect: 100-continue\r\n\r\n")
            assert b"100" in c.recv(100)  # it has read so far
        s.wait_metric('diffscm_disconnects_total{phase="request"}', 1)
        assert s.metric("diffscm_disconnects_total") == 1
        assert s.logged(1, status=499)[0]["path"] == "/counterfactual"


def test_overload_is_refused_at_once():
    with Server("--workers", "1", "--batch", "1", "--queue-capacity", "4", "--client-share", "75",
                gate=True) as s: # no place becomes free while it is shut
        jobs = []
        for i in range(10):
            r = s.post(f"do.digit=8&seed={i}", {"Prefer": "respond-async"}, body=picture(i))
            if i < 4: # one runs, and three quarters of the queue
                jobs.append(r.json["id"])
                s.wait_state(jobs[0], "running")
            else:
                r.problem(429, "queue-full")
                assert int(r.headers["retry-after"]) >= 1, r.headers
        assert s.metric('diffscm_rejects_total{reason="share_full"}') == 6
        for job in jobs:
            s.call("DELETE", "/jobs/" + job)


def test_a_refused_key_may_be_used_again():
    with Server("--workers", "1", "--batch", "1", "--queue-capacity", "1", "--client-share", "100",
                gate=True) as s:
        key = {"Idempotency-Key": "k", "Prefer": "respond-async"}
        running = s.post("do.digit=8&seed=1", {"Prefer": "respond-async"}).json["id"]
        s.wait_state(running, "running")
        waiting = s.post("do.digit=8&seed=2", {"Prefer": "respond-async"}).json["id"]
        for _ in range(2): # the refusal has not taken the key
            s.post("do.digit=8&seed=3", key).problem(429, "queue-full")
        s.call("DELETE", "/jobs/" + waiting)
        job = s.post("do.digit=8&seed=4", key) # not even for the request that was refused
        assert job.status == 202, job.body
        assert s.post("do.digit=8&seed=4", key).json["id"] == job.json["id"]
        s.open_gate()
        s.wait_state(job.json["id"], "succeeded")
        assert s.metric("diffscm_idempotent_hits_total") == 1


def test_readiness_when_full():
    with Server("--workers", "1", "--batch", "1", "--queue-capacity", "1", "--client-share", "100",
                gate=True) as s:
        assert s.admin("/readyz").status == 200
        a = s.post("do.digit=8&seed=1", {"Prefer": "respond-async"}).json["id"]
        s.wait_state(a, "running")
        b = s.post("do.digit=8&seed=2", {"Prefer": "respond-async"}).json["id"]
        r = s.admin("/readyz")
        # A shared queue is full for every replica: they stay in service, to say so themselves.
        full = (200, "ready\n") if lib.STORE == "redis" else (503, "full\n")
        assert (r.status, r.text) == full, r.body
        assert s.admin("/livez").status == 200
        for job in (b, a):
            s.call("DELETE", "/jobs/" + job)


def test_abduction_then_counterfactual():
    with Server() as s:
        r = s.post(SAME, path="/abductions")
        assert r.status == 201, r.body
        kept = r.json["abduction"]["id"]
        options = {"sampler": "obelm", "steps": 4, "ratio": 1}
        ask = {"abduction": kept, "intervention": {"digit": 4}, "options": options}
        r = s.post_json(ask)
        assert r.status == 200 and r.json["abduction"]["id"] == kept, r.body
        assert s.metric("diffscm_abduction_misses_total") == 1
        other = dict(ask, options=dict(options, steps=5))
        s.post_json(other).problem(422, "invalid-parameter")
        assert s.call("DELETE", "/abductions/" + kept).status == 204
        s.call("DELETE", "/abductions/" + kept).problem(404, "not-found")
        s.post_json(ask).problem(422, "unknown-abduction")


def test_factual_values_belong_to_the_abduction():
    """They are in both replies; with a kept abduction others are refused, and the same image under
    other ones is abducted again."""
    with Server() as s:
        r = s.post(SAME + "&factual.digit=5", path="/abductions")
        assert r.status == 201 and r.json["factuals"]["digit"] == "5", r.body
        assert r.json["factuals_read"] == [], r.body
        ask = {"abduction": r.json["abduction"]["id"], "intervention": {"digit": 4},
               "options": {"sampler": "obelm", "steps": 4, "ratio": 1}}
        for given in ({}, {"factuals": {}}, {"factuals": {"digit": 5}}):
            r = s.post_json({**ask, **given})
            assert r.status == 200 and r.json["factuals"] == {"digit": "5"}, r.body
        wrong = s.post_json({**ask, "factuals": {"digit": 6}}).problem(422, "invalid-parameter")
        assert wrong["errors"][0]["pointer"] == "/factuals/digit", wrong
        assert s.metric("diffscm_abduction_misses_total") == 1
        r = s.post("do.digit=4&" + SAME)
        assert r.status == 200 and r.json["factuals_read"] == ["digit"], r.body
        assert r.json["factuals"] == {"digit": "3"} and r.json["observed"]["digit"]["value"] == "3"
        assert s.metric("diffscm_abduction_misses_total") == 2
        s.post_json({**ask, "factuals": {"digit": 10}}).problem(422, "out-of-range")


def test_equal_images_are_abducted_once():
    with Server("--workers", "2", "--batch", "1", step_ms=20) as s:
        out = []
        threads = [threading.Thread(target=lambda i=i: out.append(s.post(f"do.digit={i}&seed={i}")))
                   for i in range(6)]
        [t.start() for t in threads]
        [t.join() for t in threads]
        assert all(r.status == 200 for r in out)
        assert s.metric("diffscm_abduction_misses_total") == 1
        assert s.metric("diffscm_abduction_hits_total") == 5


def test_samples():
    with Server() as s:
        r = s.call("POST", "/samples?count=2&seed=5", None, {"Content-Length": "0"})
        assert r.status == 200, r.body
        r = s.post_json({"count": 1, "options": {"seed": 5}}, path="/samples", headers={"Accept": "image/png"})
        assert r.status == 200 and r.body.startswith(b"\x89PNG"), r.body[:200]
        assert "x-counterfactual-model" in r.headers and "x-counterfactual-l1" not in r.headers
        p = s.post("count=1", path="/samples").problem(422, "invalid-parameter")
        assert "without a picture" in p["detail"]


def test_a_picture_that_will_not_be_there_is_refused_before_the_work():
    with Server() as s:
        png = {"Accept": "image/png"}
        assert "abduction" in s.post("", png, path="/abductions").problem(406, "not-acceptable")["detail"]
        p = s.post("do.digit=8&return=difference", png).problem(406, "not-acceptable")
        assert "return" in p["detail"]
        assert s.metric("diffscm_jobs_accepted_total") == 0
        assert s.post("do.digit=8&return=counterfactual", png).body.startswith(b"\x89PNG")


def test_waiting_jobs_run_as_one_batch():
    with Server("--workers", "1", gate=True) as s:
        blocker = s.post("do.digit=8&seed=1", {"Prefer": "respond-async"}).json["id"]
        s.wait_state(blocker, "running")
        jobs = [s.post(f"do.digit=8&seed=1{i}0&{SAME}", {"Prefer": "respond-async"},
                       body=picture(i + 1)).json["id"] for i in range(5)]
        s.open_gate()
        for job in jobs:
            s.wait_state(job, "succeeded")
        assert s.metric("diffscm_batches_total") == 2
        assert s.metric("diffscm_batched_jobs_total") == s.metric("diffscm_jobs_started_total") == 6


def test_a_batch_takes_as_many_images_as_it_may():
    with Server("--workers", "1", "--batch", "4", gate=True) as s:
        blocker = s.post("do.digit=8&seed=1", {"Prefer": "respond-async"}).json["id"]
        s.wait_state(blocker, "running")
        for i in range(6):
            s.post(f"do.digit=8&seed=2&{SAME}", {"Prefer": "respond-async"}, body=picture(i + 1))
        s.open_gate()
        s.wait_metric("diffscm_jobs_ended_total", 7)
        assert s.metric("diffscm_batches_total") == 3, "1, 4 and 2"
    with Server("--workers", "1", "--batch", "12", gate=True) as s:
        blocker = s.post("do.digit=8&seed=1", {"Prefer": "respond-async"}).json["id"]
        s.wait_state(blocker, "running")
        for i in range(2):
            s.post(f"do.digit=*&seed=2&{SAME}", {"Prefer": "respond-async"}, body=picture(i + 1))
        s.open_gate()
        s.wait_metric("diffscm_jobs_ended_total", 3)
        assert s.metric("diffscm_batches_total") == 3, "a fan is ten images"


def test_a_known_picture_does_not_delay_the_first_of_its_batch():
    with Server("--workers", "1", step_ms=150) as s: # the second walks on for 600 ms
        later = {"Prefer": "respond-async"}
        assert s.post(f"do.digit=8&seed=1&{SAME}", body=picture(7)).status == 200
        blocker = s.post("do.digit=8&seed=1&steps=2", later, body=picture(1)).json["id"]
        s.wait_state(blocker, "running")
        first = s.post(f"do.digit=8&seed=2&{SAME}", later, body=picture(2)).json["id"]
        known = s.post(f"do.digit=8&seed=3&{SAME}", later, body=picture(7)).json["id"]
        s.wait_state(first, "succeeded")
        assert s.get("/jobs/" + known).json["status"] == "running"
        s.wait_state(known, "succeeded")
        assert s.metric("diffscm_batches_total") == 3, "they were one batch"
        assert s.metric("diffscm_abduction_hits_total") == 1


def test_internal_error_tells_nothing():
    with Server() as s:
        p = s.post("do.digit=8&seed=666").problem(500, "internal")
        assert "fake engine" not in json.dumps(p)
        job = s.post("do.digit=8&seed=666", {"Prefer": "respond-async"}).json["id"]
        s.wait_state(job, "failed")
        s.call("DELETE", "/jobs/" + job).problem(409, "conflict")
        assert s.post().status == 200, "the worker lives on"


def test_expired_job():
    with Server("--jobs-age-s", "1") as s:
        job = s.post(headers={"Prefer": "respond-async"}).json["id"]
        until(lambda: s.get("/jobs/" + job).status == 410, "the job expires")
        s.get("/jobs/" + job).problem(410, "expired")
        s.get("/jobs/" + job + "/events").problem(410, "expired")
