"""Keys, CORS, configuration, logs, stopping."""
import hashlib, json, os, signal, socket, subprocess, tempfile, threading, time

import lib
from lib import PATIENCE, Server, picture, until


def keys_file(folder, **keys):
    path = os.path.join(folder, "keys")
    with open(path, "w") as f:
        f.write("# keys of the test\n")
        for name, key in keys.items():
            f.write(f"{name} {hashlib.sha256(key.encode()).hexdigest()}\n")
    return path


def bearer(key, **more):
    return dict({"Authorization": "Bearer " + key}, **more)


def test_keys_owners_and_reload():
    with tempfile.TemporaryDirectory() as folder:
        path = keys_file(folder, alice="a-secret", bob="b-secret")
        with Server("--keys-file", path) as s:
            r = s.post()
            r.problem(401, "unauthorized")
            assert r.headers["www-authenticate"] == "Bearer"
            s.post(headers=bearer("wrong")).problem(401, "unauthorized")
            r = s.post(headers=bearer("a-secret", Prefer="respond-async"))
            assert r.status == 202
            job = r.json["id"]
            s.get("/jobs/" + job).problem(401, "unauthorized")
            s.get("/jobs/" + job, bearer("b-secret")).problem(404, "not-found")
            s.call("DELETE", "/jobs/" + job, None, bearer("b-secret")).problem(404, "not-found")
            assert s.get("/jobs/" + job, bearer("a-secret")).status == 200
            assert s.get("/openapi.json").status == 200
            assert s.logged(1, job=job[:8])[0]["key"] == "alice"
            # Of the same picture each has an abduction of her own, and nobody another's.
            for key in ("a-secret", "b-secret"):
                mine = s.post("sampler=obelm&steps=4&ratio=1", bearer(key), picture(9),
                              "/abductions").json["abduction"]["id"]
                again = {"abduction": mine, "intervention": {"digit": 8},
                         "options": {"sampler": "obelm", "steps": 4, "ratio": 1}}
                assert s.post_json(again, bearer(key)).status == 200
                other = bearer("b-secret" if key == "a-secret" else "a-secret")
                s.post_json(again, other).problem(422, "unknown-abduction")
                s.call("DELETE", "/abductions/" + mine, None, other).problem(404, "not-found")
            assert s.metric("diffscm_abduction_hits_total") == 0
            keys_file(folder, carol="c-secret", dora="d-secret", ella="e-secret")
            s.process.send_signal(signal.SIGHUP)
            until(lambda: s.get("/models", bearer("c-secret")).status == 200, "new keys")
            s.get("/models", bearer("a-secret")).problem(401, "unauthorized")
            assert s.get("/models", bearer("e-secret")).status == 200
            with open(path, "w") as f:
                f.write("broken line\n")
            s.process.send_signal(signal.SIGHUP)
            s.logged(1, event="reload", level="error")
            assert s.get("/models", bearer("c-secret")).status == 200, "the old keys stay"
            assert "secret" not in s.text()


def test_cors():
    with Server() as s:
        assert "access-control-allow-origin" not in s.get("/models", {"Origin": "http://a"}).headers
    with Server("--cors-origins", "http://a, http://b") as s:
        r = s.get("/models", {"Origin": "http://a"})
        assert r.headers["access-control-allow-origin"] == "http://a"
        assert r.headers["vary"] == "Origin"
        for other in ("http://c", "http://a.c", "http://", "http://a:80"):
            r = s.get("/models", {"Origin": other})
            assert "access-control-allow-origin" not in r.headers, other
        r = s.call("OPTIONS", "/counterfactual", None,
                   {"Origin": "http://b", "Access-Control-Request-Method": "POST"})
        assert r.status == 204 and "POST" in r.headers["access-control-allow-methods"]
        assert r.headers["access-control-allow-origin"] == "http://b"


def refused(*flags, env=None):
    """One line that says why the server does not start."""
    r = subprocess.run([lib.PROGRAM, "--serve", "--port", "0", "--admin-port", "0", *flags],
                       env=dict(os.environ, **(env or {})), capture_output=True, timeout=PATIENCE,
                       text=True)
    assert r.returncode == 1, (flags, r)
    lines = [l for l in r.stderr.splitlines() if l.startswith("serve: ")]
    assert len(lines) == 1, r.stderr
    return lines[0]


def test_configuration_errors_name_source_and_allowed():
    assert "--queue-capacity" in refused("--queue-capacity", "0")
    assert "1 to 100000" in refused("--queue-capacity=many")
    assert "--nonsense" in refused("--nonsense", "1")
    assert "DIFFSCM_NONSENSE" in refused(env={"DIFFSCM_NONSENSE": "1"})
    assert "DIFFSCM_BATCH" in refused(env={"DIFFSCM_BATCH": "x"})
    assert "keys-file" in refused("--host", "0.0.0.0")
    assert "deadline-max-ms" in refused("--deadline-ms", "5000", "--deadline-max-ms", "100")
    assert "no-such-folder" in refused("--static-dir", "/no-such-folder")
    assert "/no/keys" in refused("--keys-file", "/no/keys")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "conf")
        with open(path, "w") as f:
            f.write("# fine\nbatch = 4\nquue-capacity = 3\n")
        line = refused("--config", path)
        assert path + ":3" in line and "quue-capacity" in line
        with open(path, "w") as f:  # a long line is one line
            f.write("#" + 2000 * " queue-capacity = 1" + "\nbatch = 0\n")
        line = refused("--config", path)
        assert path + ":2" in line and "batch" in line, line
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert "port " + port in refused("--port", port)


def test_sources_flag_over_environment_over_file():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "conf")
        with open(path, "w") as f:
            f.write("queue-capacity = 7\nlog-level = info\n")
        for env, flags, want in (({}, [], 7), ({"DIFFSCM_QUEUE_CAPACITY": "8"}, [], 8),
                                 ({"DIFFSCM_QUEUE_CAPACITY": "8"}, ["--queue-capacity=9"], 9)):
            with Server("--config", path, *flags, env=env) as s:
                assert s.metric("diffscm_queue_capacity") == want


def test_static_files():
    with tempfile.TemporaryDirectory() as folder:
        for name, text in (("index.html", "<p>hi"), ("app.js", "1"), (".secret", "no"),
                           ("notes.bak", "no")):
            with open(os.path.join(folder, name), "w") as f:
                f.write(text)
        outside = tempfile.TemporaryDirectory()
        os.makedirs(os.path.join(folder, ".git"))
        os.makedirs(os.path.join(folder, "sub"))
        for name in (f"{folder}/sub/inner.js", f"{folder}/.git/inner.js", f"{folder}/.hidden.js",
                     f"{outside.name}/outer.js"):
            with open(name, "w") as f:
                f.write("2")
        os.symlink(f"{outside.name}/outer.js", f"{folder}/link.js")
        os.symlink(outside.name, f"{folder}/linked")
        with outside, Server("--static-dir", folder) as s:
            r = s.get("/")
            assert r.text == "<p>hi" and r.headers["content-type"].startswith("text/html")
            assert "default-src 'self'" in r.headers["content-security-policy"]
            assert s.get("/", {"If-None-Match": r.headers["etag"]}).status == 304
            assert s.get("/app.js").headers["content-type"].startswith("text/javascript")
            for path in ("/.secret", "/notes.bak", "/..%2f..%2fetc/passwd", "//etc/passwd",
                         "/.hidden.js", "/.git/inner.js", "/link.js", "/linked/outer.js"):
                assert s.get(path).status == 404, path
            assert s.get("/sub/inner.js").text == "2"


def test_examples_are_served_and_listed():
    with tempfile.TemporaryDirectory() as folder:
        for name in ("m/b 2.png", "m/a.jpg", "m/SOURCES.md", "m/.x.png", "m/notes.bak", "loose.png",
                     "m/deep/c.png", "n/1.png"):
            path = os.path.join(folder, "examples", name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w") as f:
                f.write(name)
        with Server("--data-dir", folder) as s:
            index = s.get("/examples/index.json")
            assert index.headers["content-type"].startswith("application/json")
            assert json.loads(index.text) == {"m": ["SOURCES.md", "a.jpg", "b%202.png"],
                                              "n": ["1.png"]}, index.text
            assert s.get("/examples/m/b%202.png").text == "m/b 2.png"
            assert s.get("/examples/m/a.jpg").headers["content-type"] == "image/jpeg"
            assert s.get("/examples/m/SOURCES.md").headers["content-type"].startswith("text/plain")
            for path in ("/examples/m/.x.png", "/examples/m/notes.bak", "/examples/../m/a.jpg"):
                assert s.get(path).status == 404, path
    with tempfile.TemporaryDirectory() as folder, Server("--data-dir", folder) as s:
        assert json.loads(s.get("/examples/index.json").text) == {}


def test_access_log_and_metrics_labels():
    with Server() as s:
        s.post(headers={"X-Request-Id": "find-me"})
        for i in range(50):
            s.get(f"/random-{i}")
        s.call("BREW", "/counterfactual")
        lines = s.logged(52, event="request")
        one = [l for l in lines if l["request_id"] == "find-me"]
        assert len(one) == 1 and one[0]["status"] == 200 and one[0]["job"], one
        assert len(lines) == 52
        text = s.admin("/metrics").text
        assert "random" not in text and "BREW" not in text
        names = set()
        for line in text.splitlines():
            if line.startswith("# TYPE"):
                names.add(line.split()[2])
            elif not line.startswith("#"):
                base = line.split("{")[0].split()[0]
                for suffix in ("_bucket", "_sum", "_count"):
                    if base not in names and base.endswith(suffix):
                        base = base[:-len(suffix)]
                assert base in names, line
        for part in ("diffscm_build_info", "diffscm_model_info", "process_resident_memory_bytes",
                     "process_start_time_seconds"):
            assert part in text, part
        s.call("POST", "/metrics", port=s.admin_port).problem(405, "method-not-allowed")


def test_sigterm_finishes_accepted_jobs():
    with Server("--workers", "2", gate=True) as s:
        out = []
        threads = [threading.Thread(target=lambda i=i: out.append(
            s.post(f"do.digit=8&seed={i}", body=picture(i)))) for i in range(8)]
        [t.start() for t in threads]
        s.wait_metric("diffscm_jobs_accepted_total", 8)
        s.process.send_signal(signal.SIGTERM)
        until(lambda: s.admin("/readyz").text == "draining\n")
        s.open_gate()
        [t.join() for t in threads]
        assert s.process.wait(PATIENCE) == 0
        assert [r.status for r in out] == [200] * 8, [r.status for r in out]


def test_sigterm_cancels_what_exceeds_the_grace():
    with Server("--workers", "1", "--batch", "1", "--drain-s", "0", gate=True) as s:
        out = []
        threads = [threading.Thread(target=lambda i=i: out.append(
            s.post(f"do.digit=8&seed={i}", body=picture(i)))) for i in range(4)]
        [t.start() for t in threads]
        s.wait_metric("diffscm_jobs_accepted_total", 4)
        s.process.send_signal(signal.SIGTERM)
        assert s.process.wait(PATIENCE) == 0 # though no job could end by itself
        [t.join() for t in threads]
        for r in out:
            r.problem(503, "draining")
            assert int(r.headers["retry-after"]) >= 1


def test_draining_refuses_new_work_but_stays_alive():
    with Server("--workers", "1", gate=True) as s:
        keep = socket.create_connection(("127.0.0.1", s.port))
        keep.sendall(b"GET /models HTTP/1.1\r\nHost: x\r\n\r\n")
        assert keep.recv(4096).startswith(b"HTTP/1.1 200")
        stream = socket.create_connection(("127.0.0.1", s.port))
        body = picture()
        stream.sendall(b"POST /counterfactual?do.digit=8 HTTP/1.1\r\nHost: x\r\nAccept: "
                       b"text/event-stream\r\nContent-Type: image/png\r\nContent-Length: %d\r\n\r\n"
                       % len(body) + body)
        s.wait_metric("diffscm_jobs_accepted_total", 1)
        s.process.send_signal(signal.SIGTERM)
        until(lambda: s.admin("/readyz").text == "draining\n")
        assert s.admin("/readyz").status == 503
        assert s.admin("/livez").status == 200
        keep.sendall(b"POST /samples HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        refusal = keep.recv(4096)
        assert refusal.startswith(b"HTTP/1.1 503") and b"Connection: close" in refusal, refusal
        s.open_gate()
        got = b""
        while True:
            piece = stream.recv(65536)
            if not piece:
                break
            got += piece
        assert b"event: succeeded" in got
        assert s.process.wait(PATIENCE) == 0


def test_trusted_proxy_names_the_client():
    with Server("--trusted-proxy") as s:
        s.get("/models", {"X-Forwarded-For": "1.2.3.4, 5.6.7.8", "X-Request-Id": "p1"})
        assert [l["client"] for l in s.logged(1, request_id="p1")] == ["5.6.7.8"]
        s.get("/models", {"X-Forwarded-For": "9.9.9.9, 1.2.3.4,5.6.7.8", "X-Request-Id": "p4"})
        assert [l["client"] for l in s.logged(1, request_id="p4")] == ["5.6.7.8"]
        # A proxy may add a line of its own behind the client's.
        s.raw(b"GET /models HTTP/1.1\r\nHost: x\r\nX-Request-Id: p3\r\nX-Forwarded-For: 6.6.6.6\r\n"
              b"X-Forwarded-For: 5.6.7.8\r\nConnection: close\r\n\r\n")
        assert [l["client"] for l in s.logged(1, request_id="p3")] == ["5.6.7.8"]
    with Server() as s:
        s.get("/models", {"X-Forwarded-For": "5.6.7.8", "X-Request-Id": "p2"})
        assert [l["client"] for l in s.logged(1, request_id="p2")] == ["127.0.0.1"]


def test_turns_go_by_cost_not_by_jobs():
    """Eight short jobs of one client take as long as one of another: they run first."""
    later, at = {"Prefer": "respond-async"}, lambda n: {"X-Forwarded-For": f"10.0.0.{n}"}
    with Server("--trusted-proxy", "--workers", "1", "--batch", "1", gate=True, step_ms=2) as s:
        def accept(client, seed, steps):
            r = s.post(f"do.digit=8&seed={seed}&sampler=obelm&steps={steps}", {**later, **at(client)}, picture(seed))
            assert r.status == 202, r.body
            return r.json["id"]
        blocker = accept(9, 1, 2)
        s.wait_state(blocker, "running")
        long = [accept(1, i, 80) for i in range(2)]
        short = [accept(2, 10 + i, 10) for i in range(7)]
        places = [s.get("/jobs/" + job).json["queue_position"] for job in short + long]
        assert places == list(range(9)), places
        s.open_gate()
        s.wait_state(short[-1], "succeeded")
        assert s.get("/jobs/" + long[1]).json["status"] == "queued"
        s.wait_state(long[1], "succeeded")
