"""Many clients and little memory: budgets of bodies and connections, early refusals."""
import base64, hashlib, http.client, json, math, os, socket, struct, subprocess, tempfile, time

import lib
from lib import PATIENCE, Server, picture, status_of, until

HEAD = b"POST /counterfactual?do.digit=8 HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"


def unfinished(s, size, sent):
    """A body that is never finished: of `size` bytes `sent` are sent."""
    c = socket.create_connection(("127.0.0.1", s.port), timeout=PATIENCE)
    c.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % size + b"x" * sent)
    return c


def keyed(folder):
    path = os.path.join(folder, "keys")
    with open(path, "w") as f:
        for name in ("anna", "bert"):
            f.write(f"{name} {hashlib.sha256(name.encode()).hexdigest()}\n")
    return path


def test_bodies_have_a_budget_and_one_for_each_client():
    with tempfile.TemporaryDirectory() as folder, \
            Server("--bodies-mb", "2", "--body-kb", "1024", "--keys-file", keyed(folder)) as s:
        def held(key):
            c = socket.create_connection(("127.0.0.1", s.port), timeout=PATIENCE)
            c.sendall(HEAD + b"Authorization: Bearer %s\r\nContent-Length: 1000000\r\n\r\n" % key
                      + b"x" * 700000)
            return c
        first = held(b"anna")
        s.wait_metric("diffscm_body_bytes", 1000000)
        late = held(b"anna")
        answer = late.recv(65536)
        assert status_of(answer) == 503 and b"uploads-full" in answer, answer
        assert b"client-share" in answer and b"Retry-After: 1" in answer, answer
        second = held(b"bert") # another client has a share of its own
        s.wait_metric("diffscm_body_bytes", 2000000)
        s.wait_metric('diffscm_rejects_total{reason="uploads_full"}', 1)
        [c.close() for c in (first, second, late)]
        s.wait_metric("diffscm_body_bytes", 0)
        r = s.post(headers={"Authorization": "Bearer anna"})
        assert r.status == 200, r.text
        s.wait_metric("diffscm_body_bytes", 0)


def test_the_budget_holds_for_all_clients_together():
    with Server("--bodies-mb", "2", "--body-kb", "1024", "--client-share", "100") as s:
        held = [unfinished(s, 1000000, 700000) for _ in range(2)]
        s.wait_metric("diffscm_body_bytes", 2000000)
        answer = unfinished(s, 1000000, 700000).recv(65536)
        assert status_of(answer) == 503 and b"bodies-mb" in answer, answer
        assert s.get("/models").status == 200
        [c.close() for c in held]


def test_a_refusal_does_not_wait_for_the_body():
    with tempfile.TemporaryDirectory() as folder, \
            Server("--keys-file", keyed(folder), "--connections", "64") as s:
        for size in (100, 3000000):
            c = socket.create_connection(("127.0.0.1", s.port), timeout=10)
            c.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % size)
            answer = c.recv(65536)
            assert status_of(answer) == 401 and b"Connection: close" in answer, answer
            if size > 100:
                c.sendall(b"x" * size)  # still taken, so that the answer is not lost
            c.close()
        held = []
        for _ in range(200):  # more than there is room for: none keeps its place
            held.append(socket.create_connection(("127.0.0.1", s.port), timeout=10))
            held[-1].sendall(HEAD + b"Content-Length: 100\r\n\r\n")
        assert s.get("/models", {"Authorization": "Bearer anna"}, timeout=20).status == 200
        assert all(status_of(c.recv(65536)) == 401 for c in held)
        s.wait_metric("diffscm_connections", 0)
        [c.close() for c in held]


def test_bodies_that_do_not_come_make_room():
    with Server("--connections", "32", "--body-ms", "600000") as s:
        held = [unfinished(s, 100, 0) for _ in range(60)]
        for _ in range(3):
            assert s.get("/models", timeout=20).status == 200
        [c.close() for c in held]


def test_heads_do_not_keep_probes_out():
    with Server() as s:
        held = []
        for head in (b"GET /livez HTTP/1.1\r\nHost: x\r\n",  # not complete
                     b"POST /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n",
                     b"GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"):
            for _ in range(80):
                held.append(socket.create_connection(("127.0.0.1", s.admin_port)))
                held[-1].sendall(head)
            assert s.call("GET", "/readyz", port=s.admin_port, timeout=20).status == 200
        [c.close() for c in held]


def test_one_address_does_not_take_all_connections():
    with Server("--connections", "64", "--client-connections", "8") as s:
        held = [socket.create_connection(("127.0.0.1", s.port)) for _ in range(20)]
        until(lambda: s.metric("diffscm_connections") == 8)
        assert s.get("/models").status == 200
        other = socket.create_connection(("127.0.0.1", s.port), source_address=("127.0.0.2", 0))
        other.sendall(b"GET /models HTTP/1.1\r\nHost: x\r\n\r\n")
        assert other.recv(65536).startswith(b"HTTP/1.1 200")
        assert s.metric("diffscm_connections") <= 9
        [c.close() for c in held + [other]]
    with Server("--connections", "64", "--client-connections", "8", "--trusted-proxy") as s:
        held = [socket.create_connection(("127.0.0.1", s.port)) for _ in range(20)]
        until(lambda: s.metric("diffscm_connections") == 20)
        [c.close() for c in held]


def test_pictures_are_decoded_by_workers():
    good = picture()
    damaged = good[:50] + bytes([good[50] ^ 255]) + good[51:]
    with Server("--workers", "1", gate=True) as s:
        first = s.post(headers={"Prefer": "respond-async"})
        s.wait_metric("diffscm_workers_busy", 1)
        jobs = [s.post(body=damaged, query="do.digit=8" + more, headers={"Prefer": "respond-async", **h})
                for more, h in (("", {}), ("&resize=false", {}), ("", {"Idempotency-Key": "k"}))]
        jobs.append(s.post_json({"image": base64.b64encode(damaged).decode(),
                                 "intervention": {"digit": 8}}, {"Prefer": "respond-async"}))
        assert [j.status for j in jobs] == [202] * 4, [j.text for j in jobs]
        assert s.metric("diffscm_body_bytes") >= 3 * len(damaged) # they wait with their files
        s.open_gate()
        for j in jobs:
            s.wait_state(j.json["id"], "failed")
            assert "not-an-image" in s.get("/jobs/" + j.json["id"]).text
        s.wait_state(first.json["id"], "succeeded")
        s.wait_metric("diffscm_body_bytes", 0)
        s.post(body=damaged).problem(422, "not-an-image")  # as ever where the answer is waited for


def test_costly_and_unreadable_pictures_are_refused_by_their_heads():
    head = struct.pack(">2sB", b"\xff\xd8", 0xff)
    frame = lambda n, h, w: head + bytes([n]) + struct.pack(">HBHHB", 11, 8, h, w, 1) + b"\1\x11\0"
    with Server("--workers", "1", gate=True) as s:
        s.post(headers={"Prefer": "respond-async"})
        s.wait_metric("diffscm_workers_busy", 1)  # no worker can look at what follows
        for body, query, code, words in (
                (frame(0xc9, 28, 28), "", "not-an-image", "arithmetic-coded (SOF9)"),
                (frame(0xc2, 9000, 9000), "", "image-too-large", "9000x9000"),
                (frame(0xc0, 28, 29), "&resize=false", "image-size", "29x28"),
                (picture(w=30, h=30), "&resize=false", "image-size", "30x30"),
                (b"RIFF\x10\0\0\0WEBPVP8 ", "", "not-an-image", "WebP"),
                (b"\0\0\0\x18ftypheic", "", "not-an-image", "HEIC")):
            r = s.post(body=body, query="do.digit=8" + query)
            r.problem(422, code)
            assert words in r.text, r.text
        s.open_gate()


def test_a_log_that_nobody_reads_stops_nothing():
    reader, writer = os.pipe()
    process = subprocess.Popen([lib.PROGRAM, "--serve", "--port", "0", "--admin-port", "0",
                                "--log-level", "debug"], stderr=writer, env=dict(os.environ))
    os.close(writer)
    head = b""
    while b'"ready"' not in head:
        head += os.read(reader, 4096)
    ready = [json.loads(l) for l in head.splitlines() if b'"ready"' in l][0]
    def call(port, path):
        c = http.client.HTTPConnection("127.0.0.1", ready[port], timeout=20)
        c.request("GET", path)
        text = c.getresponse().read()
        c.close()
        return text
    c = http.client.HTTPConnection("127.0.0.1", ready["port"], timeout=20)
    while b"diffscm_log_dropped_total 0\n" in call("admin_port", "/metrics"):
        for _ in range(50):
            c.request("GET", "/" + "x" * 12000)
            c.getresponse().read()
    c.close()
    assert call("admin_port", "/readyz") == b"ready\n"
    assert b'"fake"' in call("port", "/models")
    process.terminate()
    assert process.wait(60) == 0
    os.close(reader)


def test_what_the_jobs_of_a_client_cost_has_a_limit():
    def ask(s, source, steps, key=None):
        c = http.client.HTTPConnection("127.0.0.1", s.port, timeout=PATIENCE,
                                       source_address=(source, 0))
        c.request("POST", f"/counterfactual?do.digit=*&scale=1&steps={steps}", picture(),
                  {"Content-Type": "image/png", "Prefer": "respond-async",
                   **({"Idempotency-Key": key} if key else {})})
        r = c.getresponse()
        text = r.read().decode()
        c.close()
        return r.status, text
    with Server("--workers", "1", "--client-cost", "1000", gate=True) as s:
        status, text = ask(s, "127.0.0.1", 100, "first")  # alone it may cost more
        assert status == 202, text
        first = json.loads(text)["id"]
        status, text = ask(s, "127.0.0.1", 4)
        assert status == 429 and "queue-full" in text and "network passes" in text, text
        assert ask(s, "127.0.0.1", 100, "first")[0] == 202  # the same job
        assert [ask(s, "127.0.0.2", 4)[0] for _ in range(8)].count(202) in (6, 7)  # its own limit
        s.open_gate()
        s.wait_state(first, "succeeded")
        until(lambda: ask(s, "127.0.0.1", 4)[0] == 202)


def test_long_jobs_of_a_client_leave_a_worker_to_others():
    def ask(s, source, steps):
        c = http.client.HTTPConnection("127.0.0.1", s.port, timeout=PATIENCE,
                                       source_address=(source, 0))
        c.request("POST", f"/counterfactual?do.digit=8&scale=1&steps={steps}", picture(),
                  {"Content-Type": "image/png", "Prefer": "respond-async"})
        job = json.loads(c.getresponse().read())["id"]
        c.close()
        return job
    with Server("--workers", "2", "--batch", "1", "--long-cost", "100", gate=True) as s:
        held = ask(s, "127.0.0.1", 100)
        s.wait_metric("diffscm_workers_busy", 1)
        waits = ask(s, "127.0.0.1", 100)
        brief = ask(s, "127.0.0.1", 4) # goes to the worker that the long one may not have
        s.wait_metric("diffscm_workers_busy", 2)
        assert s.get(f"/jobs/{waits}").json["status"] == "queued"
        assert s.get(f"/jobs/{brief}").json["status"] == "running"
        other = ask(s, "127.0.0.2", 100)
        s.open_gate()
        for job in (held, waits, brief, other):
            s.wait_state(job, "succeeded")


def test_large_pictures_of_a_client_leave_a_worker_to_others():
    large = picture(7, 1024, 1024)
    with Server("--workers", "2", "--batch", "1", gate=True) as s:
        jobs = [s.post(body=body, headers={"Prefer": "respond-async"}).json["id"] for body in (large, large, large)]
        s.wait_metric("diffscm_workers_busy", 1)
        small = s.post(headers={"Prefer": "respond-async"}).json["id"]
        s.wait_state(small, "running")
        assert [s.get("/jobs/" + j).json["status"] for j in jobs].count("queued") == 2
        s.open_gate()
        for job in (*jobs, small):
            s.wait_state(job, "succeeded")


def test_estimates_grow_with_the_place_and_retry_after_ends_at_a_minute():
    with Server("--workers", "1", "--batch", "1", "--client-share", "100", step_ms=20, gate=True) as s:
        s.open_gate()
        assert s.post(query="do.digit=8&steps=100", headers={"Prefer": "wait=60"}).status == 200
        # The reply goes out before the worker has measured its batch.
        s.wait_metric("diffscm_inference_seconds_count", 1)
        open(s.gate, "w").close() # from here on no job ends
        replies = [s.post(headers={"Prefer": "respond-async"}) for _ in range(45)]
        waiting = [r for r in replies if r.json["status"] == "queued"]
        each = {round(r.json["estimate_ms"] / (r.json["queue_position"] + 1)) for r in waiting}
        assert len(waiting) >= 44 and max(each) - min(each) <= 1 and min(each) >= 2000, each
        for r in waiting:
            seconds = math.ceil(r.json["estimate_ms"] / 1000)
            assert r.headers["retry-after"] == str(min(60, seconds)), (r.json, r.headers)
        assert waiting[-1].json["estimate_ms"] > 60000 > waiting[0].json["estimate_ms"], each


def test_a_deadline_holds_while_another_infers_the_same_picture():
    with Server("--workers", "2", gate=True) as s:
        s.post(headers={"Prefer": "respond-async"})
        s.wait_metric("diffscm_workers_busy", 1)
        s.post(query="do.digit=7&deadline_ms=300").problem(504, "deadline") # the gate is shut
        s.open_gate()
