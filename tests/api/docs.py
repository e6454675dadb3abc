#!/usr/bin/env python3
"""Runs every shell line of docs/api.md, and the README's, against the real program, in order.

usage: docs.py PROGRAM. Ends with a summary line; exit 0 when no line failed.
"""
import base64
import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def start(program):
    process = subprocess.Popen([program, "serve", "--port", "0", "--admin-port", "0", "--data-dir",
                                ROOT], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    for line in process.stdout:
        found = re.search(r"http://([^/\s]+)", line)
        if found:
            return process, found.group(1)
    raise SystemExit("the service did not start")


def check(line, output):
    """What a line printed: JSON where it asks for JSON, and no problem unless shown on purpose."""
    if not output.strip() or "/events" in line or "python3" in line:
        return
    body = json.loads(output)
    if "errors" in body:
        places = {e["pointer"] for e in body["errors"]}
        assert places >= {"/intervention/digit", "/options/steps"}, body
        assert body["code"] == "out-of-range" and body["status"] == 422, body
    if "counterfactuals" in body:
        assert all(c["outcome"] in ("found", "contested", "not-found") for c in body["counterfactuals"])
        assert len(body["counterfactuals"]) == (10 if "digit=*" in line else 1)


TYPES = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float),
         "boolean": bool, "null": type(None)}


def conforms(value, schema, document, place="$"):
    """Asserts that a value is what a JSON schema says: the words that openapi.json uses."""
    if "$ref" in schema:
        target = document
        for name in schema["$ref"].split("/")[1:]:
            target = target[name]
        return conforms(value, target, document, place)
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    fits = [k for k in kinds if isinstance(value, TYPES[k]) and
            (k == "boolean" or not isinstance(value, bool))]
    assert fits or not kinds, f"{place} is no {kinds}: {str(value)[:60]}"
    assert value in schema.get("enum", [value]), f"{place} is {value}"
    for name in schema.get("required", []):
        assert name in value, f"{place} lacks {name}"
    for name, part in schema.get("properties", {}).items():
        if name in value:
            conforms(value[name], part, document, f"{place}.{name}")
    for i, item in enumerate(value if "items" in schema else []):
        conforms(item, schema["items"], document, f"{place}[{i}]")


def schema_of(line, status, document):
    """The schema of the reply that the document promises for a documented line."""
    path = re.search(r"localhost:8080(/[^\s'\"?]*)", line).group(1)
    path = re.sub(r"\$\(cat \w+.txt\)", "{id}", re.sub(r"\$\(cat$", "{id}", path))
    path = path.replace("/models/mnist", "/models/{name}")
    method = ("delete" if "-X DELETE" in line else
              "post" if " -d " in line or "--data" in line else "get")
    content = document["paths"][path][method]["responses"][str(status)].get("content", {})
    kind = "application/problem+json" if status >= 400 else "application/json"
    return content.get(kind, {}).get("schema", {})


def matches_the_description(lines, host, folder, document):
    """Asks again for every reply that is JSON, with its status, and holds it to its schema."""
    checked = 0
    for line in lines:
        if "/events" in line or "image/png' -o" in line or ".png\" -o" in line:
            continue
        again = line.split(" | python3")[0].replace("curl -sf", "curl -s", 1)
        again = again.replace("curl -s", "curl -s -w '\\n%{http_code}'", 1)
        run = subprocess.run(["bash", "-c", again.replace("localhost:8080", host)], cwd=folder,
                             capture_output=True, text=True, timeout=300, check=True)
        body, _, status = run.stdout.rpartition("\n")
        if not body.strip() or "/openapi.json" in line:
            continue
        value = json.loads(body)
        conforms(value, schema_of(line, int(status), document), document)
        if "samplers" in value:
            names = document["components"]["schemas"]["Options"]["properties"]["sampler"]["enum"]
            assert sorted(names) == sorted(value["samplers"]), value["samplers"]
        checked += 1
    assert checked >= 10, f"only {checked} replies were checked"


def codes_are_documented(text):
    """The table of errors and the source's table name the same codes."""
    with open(os.path.join(ROOT, "api/problem.c"), encoding="utf-8") as source:
        codes = set(re.findall(r'\{"([a-z-]+)",\s*[45]\d\d', source.read())) - {"canceled"}
    table = text[text.index("| status | codes |"):]
    return codes - set(re.findall(r"[a-z]+(?:-[a-z]+)*", table))


def is_sound(document):
    """What OpenAPI 3.1 asks of a document, as far as this one goes: references lead somewhere, every
    operation has its own id and responses with a description, every path parameter is declared."""
    assert document["openapi"].startswith("3.1."), document["openapi"]
    assert document["info"]["title"] and document["info"]["version"]
    seen, methods = set(), {"get", "post", "delete", "put", "patch"}

    def walk(value, place):
        if isinstance(value, dict):
            if "$ref" in value:
                target = document
                for name in value["$ref"].removeprefix("#/").split("/"):
                    assert name in target, f"{place}: {value['$ref']} leads nowhere"
                    target = target[name]
            for name, part in value.items():
                walk(part, f"{place}/{name}")
        for i, part in enumerate(value if isinstance(value, list) else []):
            walk(part, f"{place}/{i}")

    walk(document, "#")
    for path, operations in document["paths"].items():
        shared = operations.get("parameters", [])
        for method in methods & set(operations):
            operation = operations[method]
            assert operation["operationId"] not in seen, f"{path} {method}: id used twice"
            seen.add(operation["operationId"])
            for status, reply in operation["responses"].items():
                assert re.fullmatch("[1-5][0-9X]{2}|default", status), f"{path}: {status}"
                assert "$ref" in reply or reply["description"], f"{path} {method} {status}"
            named = {p["name"] for p in shared + operation.get("parameters", [])
                     if p.get("in") == "path"}
            assert named == set(re.findall(r"{(\w+)}", path)), f"{path} {method}: {named}"


def resolved(value, document):
    if "$ref" in value:
        for name in value["$ref"].split("/")[1:]:
            document = document[name]
        return document
    return value


def queries_are_described(host, document):
    """The document's query parameters are those that the program itself lists as allowed, and none
    of them is unknown to it; each schema is one of the JSON form, so types are told once."""
    for path in ("/counterfactual", "/abductions", "/samples"):
        shown = [resolved(p, document) for p in document["paths"][path]["post"]["parameters"]]
        shown = {p["name"]: p["schema"] for p in shown if p["in"] == "query"}
        forms = {"do.digit", "shift.digit", "hold.digit"} if shown.pop("intervention", 0) else set()
        if shown.pop("factuals", 0):
            forms.add("factual.digit")
        names = sorted(set(shown) | forms)

        def faults(query):
            request = urllib.request.Request(f"http://{host}{path}?{query}", b"x",
                                             {"Content-Type": "image/png"}, method="POST")
            try:
                urllib.request.urlopen(request, timeout=60)
            except urllib.error.HTTPError as reply:
                return json.load(reply)["errors"]
            raise AssertionError(f"{query} was accepted")

        (unknown,) = [e["detail"] for e in faults("colour=1") if e["pointer"] == "?colour"]
        listed = set(unknown.split("allowed are: ")[1].rstrip(".").split(", "))
        listed = {n.replace("NAME", "digit") for n in listed}
        assert listed == set(names), f"{path}: {sorted(listed ^ set(names))}"
        for name in names:
            assert all(e["code"] != "unknown-field" for e in faults(f"{name}=:")), (path, name)
        for name, schema in shown.items():
            assert resolved(schema, document), (path, name)
        body = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        fields = resolved(body["schema"], document)["properties"]
        options = resolved(fields["options"], document)["properties"]
        assert set(options) == set(shown) - set(fields), f"{path}: {sorted(options)}"


def readme_line(host, folder):
    """The README's line, from its folder, gives a picture that the oracle calls the target."""
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as source:
        line = re.search(r"^curl .*?(?<!\\)$", source.read(), re.S | re.M).group(0)
    os.symlink(os.path.join(ROOT, "examples"), os.path.join(folder, "examples"))
    line = line.replace("localhost:8080", host)
    target = re.search(r"do\.digit=(\d)", line).group(1)
    subprocess.run(["bash", "-c", line.replace("curl", "curl -sf -D head.txt", 1)], cwd=folder,
                   check=True, timeout=300)
    with open(os.path.join(folder, "head.txt"), encoding="utf-8") as source:
        head = source.read().lower()
    assert f"x-counterfactual-oracle-label: {target}\n" in head, head
    with open(os.path.join(folder, "eight.png"), "rb") as source:
        picture = source.read()
    again = re.sub(r"-H 'Accept: image/png'|-o \S+", "", line).replace("curl", "curl -sf", 1)
    run = subprocess.run(["bash", "-c", again], cwd=folder, check=True, timeout=300,
                         capture_output=True, text=True)
    answer = json.loads(run.stdout)["counterfactuals"][0]
    assert answer["scores"]["oracle_label"] == target, answer["scores"]
    assert base64.b64decode(answer["image"]) == picture, "PNG and JSON replies differ"


def program_prints_the_same(program, host, folder):
    """The command line's JSON is the service's, but for ids, times and the pictures."""
    example = os.path.join(ROOT, "examples/mnist/3.png")
    with open(example, "rb") as source:
        request = urllib.request.Request(f"http://{host}/counterfactual?do.digit=*&steps=5",
                                         source.read(), {"Content-Type": "image/png", "Prefer": "wait=60"})
    with urllib.request.urlopen(request, timeout=300) as reply:
        served = json.load(reply)
    run = subprocess.run([program, "counterfactual", example, "--do", "digit=*", "--steps", "5",
                          "--json", "-o", os.path.join(folder, "fan.png"), "--data-dir", ROOT],
                         capture_output=True, text=True, timeout=300, check=True)
    printed = json.loads(run.stdout)
    for answer in (served, printed):
        del answer["timing_ms"], answer["id"], answer["abduction"]["id"]
    for key in ("factual", "reconstruction"):
        served.pop(key, None)
    for answer in served["counterfactuals"]:
        del answer["image"], answer["difference"]
    assert printed == served, (printed, served)


def python_client(program, host, folder):
    """The client of the page: streams progress and leaves the picture. With so many steps that the
    walk outlasts the wait between two reports; the page's own call may end before the first."""
    os.remove(os.path.join(folder, "three.png"))
    longer = program.replace("?{query}", "?steps=200&{query}")
    assert longer != program
    run = subprocess.run([sys.executable, "-c", longer.replace("localhost:8080", host)], cwd=folder,
                         capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    assert "%\n" in run.stdout, run.stdout  # which steps are told depends on the machine
    assert os.path.exists(os.path.join(folder, "three.png"))


def main():
    program = os.path.abspath(sys.argv[1])
    with open(os.path.join(ROOT, "docs/api.md"), encoding="utf-8") as source:
        text = source.read()
    lines = re.findall(r"```sh\n(.*?)\n```", text, re.S)
    passed = failed = 0
    missing = codes_are_documented(text)
    if missing:
        failed += 1
        print(f"  FAIL codes without documentation: {sorted(missing)}")
    process, host = start(program)
    try:
        with tempfile.TemporaryDirectory() as folder:
            for line in lines:
                run = subprocess.run(["bash", "-c", line.replace("localhost:8080", host)],
                                     cwd=folder, capture_output=True, text=True, timeout=300)
                try:
                    assert run.returncode == 0, f"status {run.returncode} {run.stdout[:300]}"
                    check(line, run.stdout)
                    passed += 1
                except (AssertionError, ValueError) as error:
                    failed += 1
                    print(f"  FAIL {line}\n       {error}")
            with open(os.path.join(ROOT, "api/openapi.json"), encoding="utf-8") as source:
                document = json.load(source)
            (client,) = re.findall(r"```python\n(.*?)\n```", text, re.S)
            for name, test in (
                    ("openapi.json is sound", lambda: is_sound(document)),
                    ("replies and openapi.json agree",
                     lambda: matches_the_description(lines, host, folder, document)),
                    ("queries and openapi.json agree",
                     lambda: queries_are_described(host, document)),
                    ("the Python client", lambda: python_client(client, host, folder)),
                    ("the program prints the same",
                     lambda: program_prints_the_same(program, host, folder)),
                    ("the README's line", lambda: readme_line(host, folder))):
                try:
                    test()
                    passed += 1
                except (AssertionError, ValueError, KeyError, AttributeError,
                        subprocess.SubprocessError) as error:
                    failed += 1
                    print(f"  FAIL {name}: {error!r}")
            for name in ("seven", "eight", "three"):
                with open(os.path.join(folder, name + ".png"), "rb") as picture:
                    assert picture.read(8) == b"\x89PNG\r\n\x1a\n", name
    finally:
        process.terminate()
        if process.wait(300) != 0:
            failed += 1
            print("  FAIL the service did not end well")
    print(f"api-docs {passed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
