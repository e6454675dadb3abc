"""Client side of the HTTP tests: a server process, requests, raw sockets, pictures."""
import atexit, base64, http.client, json, os, signal, socket, struct, subprocess, tempfile, time, zlib

STORE = "memory"  # or sqlite, redis: servers whose flags name no store get one of their own; set by run.py
PROGRAM = None  # the fake server (tests/http/test_http); set by run.py


PATIENCE = 120  # seconds: what never happens fails then; no test passes by waiting for it


def until(condition, what=None):
    """Waits for a condition, in which the server may still refuse; gives its value."""
    end, value = time.monotonic() + PATIENCE, None
    while time.monotonic() < end:
        try:
            value = condition()
        except (OSError, http.client.HTTPException) as error:
            value, what = None, what or repr(error)
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError(f"waited {PATIENCE} s in vain: {what or condition}")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Redis:
    """A redis-server of its own on a private unix socket; the system's is left alone. Each call of url()
    gives another empty database."""

    def __init__(self, *flags, env=None):
        self.env = dict(os.environ, **(env or {}))
        self.folder = tempfile.TemporaryDirectory(prefix="diffscm-redis-")
        self.flags, self.databases = flags, 0
        self.socket = self.folder.name + "/redis.sock"
        self.process = None
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            ["redis-server", "--port", "0", "--unixsocket", self.socket, "--unixsocketperm", "700",
             "--dir", self.folder.name, "--save", "", "--databases", "4096", "--daemonize", "no",
             *self.flags], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=self.env)
        until(lambda: self.call("PING") == "PONG", "redis-server starts")

    def call(self, *words, db=0):
        """A command by redis-cli; its output."""
        password = self.flags[1] if self.flags[:1] == ("--requirepass",) else None
        env = dict(os.environ, **({"REDISCLI_AUTH": password} if password else {}))
        r = subprocess.run(["redis-cli", "-s", self.socket, "-n", str(db), *words], text=True,
                           capture_output=True, env=env)
        return r.stdout.strip()

    def url(self):
        self.databases += 1
        return f"redis+unix://{self.socket}?db={self.databases}"

    def kill(self):
        self.process.kill()
        self.process.wait()

    def close(self):
        self.kill()
        self.folder.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *args):
        self.close()


REDIS = None  # of the cases that run with every store; started when first needed


def shared_redis():
    global REDIS
    if not REDIS:
        REDIS = Redis()
        atexit.register(REDIS.close)
    return REDIS


class Server:
    """The server with the given flags; a context manager that stops it and checks its exit. With a
    gate, no job gets beyond its first step before open_gate()."""

    def __init__(self, *flags, step_ms=5, env=None, program=None, expect=0, gate=False):
        self.flags, self.expect = flags, expect
        self.env = dict(os.environ, FAKE_STEP_MS=str(step_ms), **(env or {}))
        self.gate = None
        if gate:
            handle, self.gate = tempfile.mkstemp(prefix="diffscm-gate-")
            os.close(handle)
            self.env["FAKE_GATE"] = self.gate
        self.command = program or [PROGRAM, "--serve"]
        self.log = tempfile.TemporaryFile("w+")
        self.folder = None
        if STORE == "sqlite" and "--store" not in flags:
            self.folder = tempfile.TemporaryDirectory(prefix="diffscm-store-")
            self.flags += ("--store", f"sqlite:{self.folder.name}/jobs.db")
        if STORE == "redis" and "--store" not in flags:
            self.flags += ("--store", shared_redis().url())

    def __enter__(self):
        self.process = subprocess.Popen(
            self.command + ["--port", "0", "--admin-port", "0", *self.flags],
            stdout=subprocess.DEVNULL, stderr=self.log, env=self.env)
        try:
            ready = until(lambda: [l for l in self.lines() if l.get("event") == "ready"]
                          or self.process.poll() is not None, "the server is ready")
            assert ready is not True, "the server did not start: " + self.text()
        except AssertionError:
            self.stop(signal.SIGKILL)
            raise
        self.port, self.admin_port = ready[0]["port"], ready[0]["admin_port"]
        return self

    def open_gate(self):
        if self.gate and os.path.exists(self.gate):
            os.unlink(self.gate)

    def close_gate(self):
        open(self.gate, "w").close()

    def text(self):
        self.log.seek(0)
        return self.log.read()

    def lines(self):
        out = []
        for line in self.text().splitlines():
            try:
                out.append(json.loads(line))
            except ValueError:
                pass
        return out

    def stop(self, number=signal.SIGTERM, timeout=PATIENCE):
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout)

    def __exit__(self, kind, value, trace):
        self.open_gate()
        code = self.stop()
        if self.folder:
            self.folder.cleanup()
        if kind is None and self.expect is not None:
            assert code == self.expect, f"exit status {code}: {self.text()[-3000:]}"
        self.log.close()

    def call(self, method, path, body=None, headers=None, port=None, timeout=PATIENCE):
        c = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=timeout)
        try:
            c.request(method, path, body, headers or {})
            r = c.getresponse()
            return Reply(r.status, r.getheaders(), r.read())
        finally:
            c.close()

    def post(self, query="do.digit=8", headers=None, body=None, path="/counterfactual", **more):
        merged = {"Content-Type": "image/png"}
        merged.update(headers or {})
        body = picture() if body is None else body
        return self.call("POST", f"{path}?{query}", body, merged, **more)

    def post_json(self, value, headers=None, path="/counterfactual", **more):
        merged = {"Content-Type": "application/json"}
        merged.update(headers or {})
        body = value if isinstance(value, (bytes, str)) else json.dumps(value)
        return self.call("POST", path, body, merged, **more)

    def get(self, path, headers=None, **more):
        return self.call("GET", path, None, headers, **more)

    def admin(self, path):
        return self.call("GET", path, port=self.admin_port)

    def metric(self, name):
        """Sum over all series whose name with labels starts with `name`."""
        total = 0.0
        for line in self.admin("/metrics").text.splitlines():
            series, _, value = line.rpartition(" ")
            if series == name or series.startswith(name + "{") or \
                    ("{" in name and series.startswith(name)):
                total += float(value)
        return total

    def raw(self, data, timeout=PATIENCE, pause=None, port=None):
        """Sends bytes (or pieces with a pause between them) and reads until the end."""
        s = socket.create_connection(("127.0.0.1", port or self.port), timeout=timeout)
        out = b""
        try:
            for piece in [data] if isinstance(data, bytes) else data:
                s.sendall(piece)
                if pause:
                    time.sleep(pause)
        except (ConnectionResetError, BrokenPipeError):
            pass  # hung up on: its last words may still be there
        try:
            while True:
                got = s.recv(65536)
                if not got:
                    break
                out += got
        except (ConnectionResetError, BrokenPipeError):
            pass
        finally:
            s.close()
        return out

    def wait_state(self, job, state):
        until(lambda: self.get("/jobs/" + job).json["status"] == state, f"job {job}: {state}")

    def wait_metric(self, name, value):
        until(lambda: self.metric(name) == value, f"{name}: {value}")

    def logged(self, count, **fields):
        """The lines of the log with these fields, once there are so many."""
        def lines():
            found = [l for l in self.lines() if all(l.get(k) == v for k, v in fields.items())]
            return found if len(found) >= count else None
        return until(lines, f"{count} lines of {fields}")

    def rss(self):
        with open(f"/proc/{self.process.pid}/statm") as f:
            return int(f.read().split()[1]) * os.sysconf("SC_PAGESIZE")


class Reply:
    def __init__(self, status, headers, body):
        self.status, self.body = status, body
        self.headers = {k.lower(): v for k, v in headers}

    @property
    def text(self):
        return self.body.decode()

    @property
    def json(self):
        return json.loads(self.body)

    def problem(self, status, code):
        """Asserts that this is the problem `code` and returns it."""
        assert self.status == status, (self.status, self.body[:500])
        assert self.headers["content-type"] == "application/problem+json", self.headers
        value = self.json
        assert value["type"].endswith(code), value
        assert value["status"] == status and value["title"], value
        return value


def status_of(raw):
    return int(raw.split(b" ", 2)[1]) if raw.startswith(b"HTTP/1.1 ") else 0


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + \
        struct.pack(">I", zlib.crc32(kind + data))


def picture(value=0, w=28, h=28, depth=8, color=0, extra=b"", palette=False):
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
    row = b"\0" + bytes([value]) * ((w * channels * depth + 7) // 8)
    plte = chunk(b"PLTE", bytes(range(256)) * 3) if color == 3 and depth == 8 else \
        chunk(b"PLTE", bytes(3 * (1 << depth))) if color == 3 else b""
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, depth, color, 0, 0, 0)) \
        + plte + extra + chunk(b"IDAT", zlib.compress(row * h, 9)) + chunk(b"IEND", b"")


def picture64(value=0):
    return base64.b64encode(picture(value)).decode()


def events(raw):
    """(id, name, data) of a text/event-stream body."""
    out = []
    for block in raw.decode().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines()
                      if ": " in line and not line.startswith(":"))
        if "event" in fields:
            out.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
    return out
