"""Input as other programs write it: used, or refused by its name."""
import base64, gzip, json, os, signal, socket, tempfile, urllib.parse

from lib import Server, picture, picture64, status_of

MARK = b"\xef\xbb\xbf"


def test_byte_order_marks_are_no_part_of_a_text():
    with tempfile.TemporaryDirectory() as folder:
        config, keys = os.path.join(folder, "c"), os.path.join(folder, "k")
        with open(keys, "wb") as f:
            f.write(MARK + b"anna " + b"8d" * 32 + b"\n")
        with open(config, "wb") as f:
            f.write(MARK + f"keys-file = {keys}\nbatch = 7\n".encode())
        with Server("--config", config) as s:
            assert s.get("/models").status == 401
    with Server() as s:
        r = s.post_json(MARK + b'{"intervention":{"digit":8}}', path="/samples")
        assert r.status == 200, r.text
        s.post_json(MARK + b"{", path="/samples").problem(400, "malformed-json")


def test_a_query_beside_json_is_refused_by_name():
    body = {"image": picture64(), "intervention": {"digit": 8}}
    with Server() as s:
        for query, name in (("do.digit=3", "?do.digit"), ("model=nothing", "?model"),
                            ("stepz=20", "?stepz"), ("steps=20&seed=1", "?steps")):
            r = s.post_json(body, path="/counterfactual?" + query)
            r.problem(422, "invalid-parameter")
            assert r.json["errors"][0]["pointer"] == name, r.text
        assert len(r.json["errors"]) == 2
        s.post_json(body, path="/counterfactual?a=%zz").problem(400, "malformed-query")
        for query in ("", "?", "?&"):
            assert s.post_json(body, path="/counterfactual" + query).status == 200


def test_calls_that_take_no_query_refuse_one_by_name():
    with Server() as s:
        job = s.post(headers={"Prefer": "respond-async"}).json["id"]
        s.wait_state(job, "succeeded")
        kept = s.post("sampler=obelm&steps=4&ratio=1", path="/abductions").json["abduction"]["id"]
        for method, path in (("GET", "/models"), ("HEAD", "/models"), ("GET", "/models/fake"), ("GET", "/openapi.json"),
                             ("GET", "/jobs/" + job), ("GET", f"/jobs/{job}/events"), ("DELETE", "/jobs/" + job),
                             ("GET", f"/jobs/{job}/images/counterfactual-0.png"), ("GET", "/v1/models"),
                             ("DELETE", "/abductions/" + kept)):
            r = s.call(method, path + "?wait=5&fields=id")
            assert r.status == 400, (method, path, r.status)
            if method == "HEAD":
                continue
            r.problem(400, "malformed-query")
            assert [e["pointer"] for e in r.json["errors"]] == ["?wait", "?fields"] and "'wait'" in r.text, r.text
            s.call(method, path + "?a=%zz").problem(400, "malformed-query")
        for path in ("/metrics", "/livez", "/readyz"):
            assert "?verbose" in json.dumps(s.admin(path + "?verbose").problem(400, "malformed-query")["errors"])
            assert s.admin(path + "?").status == 200
        for path in ("/models", "/jobs/" + job, f"/jobs/{job}/events"):
            assert s.get(path + "?").status == s.get(path + "?&").status == 200, path
        assert s.call("DELETE", "/abductions/" + kept).status == 204, "the refused call did nothing"
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "index.html"), "w") as f:
            f.write("<p>hi")
        with Server("--static-dir", folder) as s:  # files of the page: links are given such
            assert s.get("/?utm_source=x").text == "<p>hi"


def test_bodies_that_are_no_json_are_told_for_what_they_are():
    text = json.dumps({"intervention": {"digit": 8}})
    with Server() as s:
        for body, words in [(gzip.compress(text.encode()), "gzip data"), (text.encode("utf-16"), "UTF-16"),
                            (text.encode("utf-16-le"), "UTF-16"), (text.encode("utf-16-be"), "UTF-16"),
                            (text.encode("utf-32"), "UTF-32"), (picture(), "Content-Type: image/png"),
                            (b"--x\r\n", "multipart/form-data")]:
            r = s.post_json(body, path="/samples")
            assert words in r.problem(400, "malformed-json")["detail"], r.text
        for body, words in [(base64.b64encode(picture()), "base64 text"), (b"<html><body>", "HTML"),
                            (b"\0\0\0\x18ftyphevc" + bytes(20), "HEIC")]:
            assert words in s.post(body=body).problem(422, "not-an-image")["detail"]


def test_declared_encodings_are_refused_by_name():
    with Server() as s:
        for encoding in ("gzip", "br", "gzip, identity"):
            r = s.post(body=gzip.compress(picture()), headers={"Content-Encoding": encoding})
            r.problem(415, "unsupported-media-type")
            assert encoding in r.text and "Content-Encoding" in r.text, r.text
            assert r.headers["accept-encoding"] == "identity"
        for encoding in ("identity", "Identity", ""):
            assert s.post(headers={"Content-Encoding": encoding}).status == 200


def test_spellings_of_base64():
    text = picture64(251)
    safe = base64.urlsafe_b64encode(picture(251)).decode()
    with Server() as s:
        for image in (text, safe, safe.rstrip("="), base64.encodebytes(picture(251)).decode(),
                      "data:image/png;base64," + text, "DATA:;Base64," + text,
                      "data:image/png;base64," + urllib.parse.quote(text, safe="")):
            r = s.post_json({"image": image, "intervention": {"digit": 8}})
            assert r.status == 200, (image[:60], r.text)
        r = s.post_json({"image": "data:text/plain;base64," + text, "intervention": {"digit": 8}})
        r.problem(422, "not-an-image")
        assert "text/plain" in r.text


def test_locations_stay_in_the_folder_of_a_proxy():
    with Server() as s:
        for prefix in ("", "/v1"):
            r = s.call("POST", prefix + "/counterfactual?do.digit=8", picture(),
                       {"Content-Type": "image/png", "Prefer": "respond-async"})
            target = urllib.parse.urljoin(f"http://h/under/a{prefix}/counterfactual",
                                          r.headers["location"])
            assert target == f"http://h/under/a{prefix}/jobs/" + r.json["id"], target
            assert s.get(prefix + "/" + r.headers["location"]).status == 200


def test_forwarded_addresses_in_every_spelling():
    with Server("--trusted-proxy") as s:
        for i, (text, want) in enumerate((
                ("5.6.7.8", "5.6.7.8"), ("5.6.7.8:1234", "5.6.7.8"), ("[2001:db8::1]", "2001:db8::1"),
                ("[2001:DB8::1]:443", "2001:db8::1"), ("1.1.1.1, 2001:db8:0::1", "2001:db8::1"),
                ('"[::1]:9"', "::1"), ("5.6.7.8 ", "5.6.7.8"), ("unknown", "127.0.0.1"),
                ("5.6.7.8:x", "127.0.0.1"), ("[::1", "127.0.0.1"), ("999.1.1.1", "127.0.0.1"))):
            s.get("/models", {"X-Forwarded-For": text, "X-Request-Id": f"f{i}"})
            assert [l["client"] for l in s.logged(1, request_id=f"f{i}")] == [want], text


def test_targets_in_every_form():
    with Server() as s:
        job = s.post(headers={"Prefer": "respond-async"}).json["id"]
        for target in ("/%6dodels", "/v1/models", "http://anything:1/models", "HTTP://x/v1/models?",
                       "/jobs/%s%%%02x" % (job[:-1], ord(job[-1]))):
            raw = s.raw(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            assert status_of(raw) == 200, (target, raw[:300])
        for target in ("/models%00", "/models%2f", "/%zz", "/%6", "%", "http://x"):
            raw = s.raw(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            assert status_of(raw) in (404, 200 if target == "http://x" else 404), (target, raw[:300])


def test_pages_of_others_may_not_call():
    ask = {"Content-Length": "0"}
    with Server("--cors-origins", "http://friend.example") as s:
        own = f"http://127.0.0.1:{s.port}"
        for headers, status in (
                ({}, 200), ({"Origin": own}, 200), ({"Origin": "http://friend.example"}, 200),
                ({"Origin": "http://friend.example", "Sec-Fetch-Site": "cross-site"}, 200),
                ({"Sec-Fetch-Site": "same-origin", "Origin": "http://behind.proxy"}, 200),
                ({"Sec-Fetch-Site": "none"}, 200),
                ({"Origin": "http://evil.example"}, 403), ({"Origin": "null"}, 403),
                ({"Origin": "http://friend.example.evil"}, 403),
                ({"Sec-Fetch-Site": "cross-site"}, 403), ({"Sec-Fetch-Site": "same-site"}, 403),
                ({"Origin": "http://evil.example", "Authorization": "Bearer k"}, 200)):
            r = s.call("POST", "/samples", None, {**ask, **headers})
            assert r.status == status, (headers, r.text)
            assert s.get("/models", headers).status == status, headers
        assert s.get("/openapi.json", {"Origin": "http://evil.example"}).status == 200


def test_names_of_others_do_not_reach_an_anonymous_service():
    with Server("--cors-origins", "http://friend.example:8080") as s:
        for host, status in (("localhost", 200), ("localhost:1", 200), ("127.0.0.1:2", 200),
                             ("[::1]:3", 200), ("a.localhost", 200), ("friend.example", 200),
                             ("evil.example", 403), ("evil.example:80", 403), ("127.0.0.1.nip.io", 403),
                             ("x" * 300 + ".example", 403)):
            r = s.get("/models", {"Host": host})
            assert r.status == status, (host, r.text)
    with Server("--trusted-proxy") as s:
        assert s.get("/models", {"Host": "service.example"}).status == 200


def test_ids_are_logged_in_part():
    with Server() as s:
        job = s.post(headers={"Prefer": "respond-async"}).json["id"]
        s.get("/jobs/" + job)
        s.get("/v1/jobs/" + job + "/images/counterfactual-0.png")
        s.logged(1, path="/jobs/" + job[:8])
        s.logged(1, path="/v1/jobs/" + job[:8] + "/images/counterfactual-0.png")
        assert job not in s.text()


def test_a_low_limit_of_descriptors_lowers_connections():
    import lib
    shell = ["sh", "-c", 'ulimit -n 300 && exec "$0" --serve "$@"', lib.PROGRAM]
    with Server(program=shell) as s:
        assert s.get("/models").status == 200
        assert "from 4096 to 108" in s.logged(1, event="connections")[0]["message"]


def test_keys_are_read_from_regular_files_only():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "k")
        with open(path, "w") as f:
            f.write("anna " + "8d" * 32 + "\n")
        with Server("--keys-file", path) as s:
            os.unlink(path)
            os.mkfifo(path)
            s.process.send_signal(signal.SIGHUP)
            assert "no regular file" in s.logged(1, event="reload")[0]["message"]
            assert s.get("/models").status == 401


def test_one_client_does_not_take_all_event_streams():
    with Server("--streams", "40", "--workers", "1", gate=True) as s:
        job = s.post(headers={"Prefer": "respond-async"}).json["id"]
        ask = f"GET /jobs/{job}/events HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        held = []
        for _ in range(20):
            held.append(socket.create_connection(("127.0.0.1", s.port)))
            held[-1].sendall(ask)
            assert held[-1].recv(100).startswith(b"HTTP/1.1 200")
        r = s.get(f"/jobs/{job}/events")
        r.problem(429, "queue-full")
        assert "50 % of 40" in r.text, r.text
        other = socket.create_connection(("127.0.0.1", s.port), source_address=("127.0.0.2", 0))
        other.sendall(ask)
        assert other.recv(100).startswith(b"HTTP/1.1 200")
        [c.close() for c in held + [other]]
        s.wait_metric("diffscm_streams", 0)
        s.open_gate()


def form(*parts):
    out = b""
    for head, data in parts:
        out += b"--XX\r\nContent-Disposition: form-data; " + head + b"\r\n\r\n" + data + b"\r\n"
    return out + b"--XX--\r\n"


def test_forms():
    kind = {"Content-Type": "multipart/form-data; boundary=XX"}
    file = (b'name="image"; filename="7.png"', picture())
    with Server() as s:
        def send(*parts, query="", **more):
            return s.call("POST", "/counterfactual" + query, form(*parts), {**kind, **more})
        r = send(file, (b'name="do.digit"', b"8"), (b'name="steps"', b""))
        assert r.status == 200 and r.json["counterfactuals"][0]["intervention"] == {"digit": "8"}, r.text
        r = send((b'name="do.digit"', b"8"), file, Accept="image/png")
        assert r.status == 200 and r.body.startswith(b"\x89PNG")
        assert send(file, query="?do.digit=8").status == 200
        assert s.call("POST", "/samples", form((b"name=do.digit", b"8")), kind).status == 200
        for parts, query, status, words in (
                ((file, file), "?do.digit=8", 400, "more than one picture"),
                ((file, (b"name=stepz", b"3")), "?do.digit=8", 422, "?stepz"),
                ((file, (b'name="do.digit"', b"3")), "?do.digit=8", 400, "given twice"),
                (((b'name="do.digit"', b"3"),), "", 422, "An image (or"),
                (((b'name="image"; filename="x"', b"GIF89a"), (b"name=do.digit", b"3")), "", 422, "GIF")):
            r = send(*parts, query=query)
            assert r.status == status and words in r.text, (parts, r.status, r.text)
        r = s.call("POST", "/counterfactual?do.digit=8", form(file)[:-8], kind)
        r.problem(400, "bad-request")
        damaged = send((b'name="image"; filename="x"', picture()[:60]), (b'name="do.digit"', b"3"))
        damaged.problem(422, "not-an-image")
        s.wait_metric("diffscm_body_bytes", 0)
