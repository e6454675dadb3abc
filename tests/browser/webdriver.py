"""A WebDriver client of a few lines: the standard library and Debian's chromedriver."""
import base64
import json
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--disable-dev-shm-usage", "--hide-scrollbars"]


class NoBrowser(Exception):
    """The browser does not start on this machine."""


class Browser:
    """One browser with its own profile. Close it."""

    def __init__(self, width=1200, height=1500):
        self.profile = tempfile.mkdtemp(prefix="dscm-browser-")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.driver = subprocess.Popen(["chromedriver", f"--port={self.port}"],
                                       stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for line in self.driver.stdout:
            if "successfully" in line:
                break
        flags = FLAGS + [f"--user-data-dir={self.profile}", f"--window-size={width},{height}"]
        options = {"args": flags}
        wanted = {"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}}}
        self.session = "/session/" + self.start(wanted)["sessionId"]

    def start(self, wanted, attempts=3):
        """A busy machine may let the browser's own start-up time out: that is no fault of the page."""
        for attempt in range(attempts):
            try:
                return self.raw("POST", "/session", wanted)
            except RuntimeError as error:
                if attempt + 1 == attempts:
                    self.driver.kill()
                    self.driver.wait()
                    raise NoBrowser(str(error).splitlines()[-1]) from None
                time.sleep(3)
        return None

    def raw(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, method=method,
                                         headers={"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=120) as reply:
                return json.load(reply)["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(json.load(error)["value"]["message"]) from None

    def call(self, method, path, body=None):
        return self.raw(method, self.session + path, body)

    def open(self, url):
        self.call("POST", "/url", {"url": "about:blank"})
        self.call("POST", "/url", {"url": url})

    def js(self, script, *args):
        return self.call("POST", "/execute/sync", {"script": script, "args": list(args)})

    def find(self, css):
        return self.call("POST", "/element", {"using": "css selector", "value": css})[ELEMENT]

    def click(self, css):
        self.js("document.querySelector(arguments[0]).scrollIntoView({block: 'center'})", css)
        self.call("POST", f"/element/{self.find(css)}/click", {})

    def keys(self, text):
        """Sends keys to whatever has the focus."""
        steps = []
        for key in text:
            steps += [{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]
        self.call("POST", "/actions", {"actions": [{"type": "key", "id": "keys",
                                                    "actions": steps}]})

    def draw(self, css, strokes):
        """Draws strokes, lists of (x, y) in the canvas's own pixels, with the mouse."""
        self.js("document.querySelector(arguments[0]).scrollIntoView({block: 'center'})", css)
        box = self.js("const e = document.querySelector(arguments[0]), b = e.getBoundingClientRect();"
                      "return [b.left, b.top, b.width / e.width]", css)
        steps = []
        for stroke in strokes:
            for i, (x, y) in enumerate(stroke):
                steps.append({"type": "pointerMove", "duration": 5, "origin": "viewport",
                              "x": round(box[0] + x * box[2]),
                              "y": round(box[1] + y * box[2])})
                if i == 0:
                    steps.append({"type": "pointerDown", "button": 0})
            steps.append({"type": "pointerUp", "button": 0})
        self.call("POST", "/actions", {"actions": [{
            "type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"},
            "actions": steps}]})

    def drag(self, css, path):
        """Presses the mouse on an element and moves it; path: shares of its width."""
        self.js("document.querySelector(arguments[0]).scrollIntoView({block: 'center'})", css)
        box = self.js("const b = document.querySelector(arguments[0]).getBoundingClientRect();"
                      "return [b.left, b.width, (b.top + b.bottom) / 2]", css)
        steps = [{"type": "pointerMove", "duration": 60, "origin": "viewport",
                  "x": round(box[0] + share * box[1]), "y": round(box[2])} for share in path]
        steps.insert(1, {"type": "pointerDown", "button": 0})
        self.call("POST", "/actions", {"actions": [{
            "type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"},
            "actions": steps + [{"type": "pointerUp", "button": 0}]}]})

    def wait(self, script, seconds=60):
        """Waits until the expression is true and returns it."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            value = self.js("return " + script)
            if value:
                return value
            time.sleep(0.05)
        raise AssertionError(f"waited {seconds} s in vain for: {script}")

    def resize(self, width, height):
        """Sets the viewport itself: windows have a smallest width, viewports have none."""
        self.call("POST", "/goog/cdp/execute", {
            "cmd": "Emulation.setDeviceMetricsOverride",
            "params": {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}})

    def scheme(self, name):
        self.call("POST", "/goog/cdp/execute", {"cmd": "Emulation.setEmulatedMedia", "params": {
            "features": [{"name": "prefers-color-scheme", "value": name}]}})

    def screenshot(self, path):
        size = self.js("return [innerWidth, document.documentElement.scrollHeight]")
        self.resize(size[0], max(size[1], 400))
        with open(path, "wb") as out:
            out.write(base64.b64decode(self.call("GET", "/screenshot")))

    def errors(self):
        """Messages of the console that are errors: exceptions, refused resources, CSP."""
        log = self.call("POST", "/se/log", {"type": "browser"})
        return [e["message"] for e in log if e["level"] == "SEVERE"]

    def close(self):
        try:
            self.call("DELETE", "")
        finally:
            self.driver.terminate()
            self.driver.wait()
            shutil.rmtree(self.profile, ignore_errors=True)
