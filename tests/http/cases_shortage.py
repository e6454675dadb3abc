"""Many clients and little memory: budgets of bodies and connections, early refusals."""
import hashlib, os, socket, tempfile, time

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
        assert s.metric('diffscm_rejects_total{reason="uploads_full"}') == 1
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
