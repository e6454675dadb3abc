"""Input as other programs write it: used, or refused by its name."""
import base64, gzip, os, tempfile, urllib.parse

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
