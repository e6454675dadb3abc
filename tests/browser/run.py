#!/usr/bin/env python3
"""Drives the page in a real browser against the real program.

usage: run.py PROGRAM [--data-dir DIR] [--shots DIR] [--filter PART]
       run.py PROGRAM [--data-dir DIR] --picture FILE.png
       run.py PROGRAM [--data-dir DIR] --drawings STEM
Ends with a summary line; exit 0 when no case failed. Without a browser all are skipped. Needs chromium and chromedriver.
--picture runs no case: it takes the picture of the page that README.md shows (tools/pictures.sh). --drawings neither: it draws
fifty digits on the pad, each under do(another digit), and writes what the page then shows as IDX files: STEM-images, STEM-targets.
"""
import argparse
import base64
import contextlib
import filecmp
import hashlib
import json
import math
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request

from drawings import drawings
from webdriver import Browser, NoBrowser

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.append(os.path.join(ROOT, "tools"))
import grey_png  # noqa: E402

CASES = []
ARGS = argparse.Namespace()
TAB, SPACE, ENTER, LEFT, RIGHT, UP, DOWN = ("\ue004", " ", "\ue007", "\ue012", "\ue014", "\ue013",
                                            "\ue015")


def case(f):
    CASES.append(f)
    return f


class Skip(Exception):
    pass


class Service:
    def __init__(self, program, data_dir, *flags):
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [program, "serve", "--port", "0", "--admin-port", "0", "--data-dir", data_dir, *flags],
            stdout=subprocess.PIPE, stderr=self.log, text=True)
        for line in self.process.stdout:
            found = re.search(r"http://\S+", line)
            if found:
                self.url = found.group(0)
                return
        raise SystemExit("the service did not start")

    def close(self):
        self.process.terminate()
        return self.process.wait(30)


def no_axe(why):
    """Skips the case, or fails it where AXE_REQUIRED is set, as in continuous integration."""
    if os.environ.get("AXE_REQUIRED"):
        raise AssertionError(why)
    raise Skip(why)


def find_axe():
    """The path of axe.min.js: AXE names it, or npm fetches the version of package.json, once."""
    if "AXE" in os.environ:
        path = os.environ["AXE"]
        if not os.path.isfile(path):
            raise AssertionError(f"AXE names no file: {path}")
        return path
    folder = os.path.join(ROOT, "build", "browser")
    path = os.path.join(folder, "node_modules", "axe-core", "axe.min.js")
    wanted = os.path.join(ROOT, "tests", "browser", "package.json")
    here = os.path.join(folder, "package.json")
    if os.path.isfile(path) and filecmp.cmp(wanted, here, shallow=False):
        return path
    if not shutil.which("npm"):
        no_axe("accessibility is not checked: axe-core is missing and there is no npm to fetch it; "
               "AXE=/path/to/axe.min.js names a copy")
    os.makedirs(folder, exist_ok=True)
    shutil.copyfile(wanted, here)
    try:
        done = subprocess.run(
            ["npm", "install", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund",
             "--loglevel=error"], cwd=folder, capture_output=True, text=True, timeout=120)
        why = (done.stderr.strip().splitlines() or ["no message"])[0]
    except subprocess.TimeoutExpired:
        why = "no answer in 120 s"
    if not os.path.isfile(path):
        no_axe(f"accessibility is not checked: npm could not fetch axe-core ({why}); "
               "AXE=/path/to/axe.min.js names a copy")
    return path


def circle(x, y, r, n=24):
    return [(x + r * math.sin(2 * math.pi * k / n), y - r * math.cos(2 * math.pi * k / n))
            for k in range(n + 1)]


EIGHT = [circle(140, 95, 38), circle(140, 185, 48)]
DONE = "/^Done/.test(document.getElementById('status').textContent)"


def text(b, element):
    return b.js("return document.getElementById(arguments[0]).textContent", element)


def figures(b):
    return b.js("return [...document.querySelectorAll('#figures figure')].map(f =>"
                "f.querySelector('figcaption strong').textContent)")


def fresh(b, url):
    """The page with neither picture nor change."""
    b.open(url)
    b.wait(DONE)
    b.click("#clear")
    b.js("document.querySelectorAll('#variables input').forEach(i => { i.checked = false; })")


def draw_eight(b, url):
    """A fresh page with a drawn digit, ready to be asked about."""
    fresh(b, url)
    b.draw("#sketch", EIGHT)
    b.wait("/^Choose what/.test(document.getElementById('status').textContent)")


def set_steps(b, steps):
    """As typed: the page asks again where it has a picture and a change."""
    b.js("const s = document.getElementById('steps'); s.value = arguments[0];"
         "s.dispatchEvent(new Event('change'))", steps)


def progress_of_a_long_walk(b):
    """Asks the page at hand for a three in so many steps that they outlast several reports of
    progress on any machine; how often the bar moved."""
    b.js("window.moves = 0; new MutationObserver(() => moves++).observe("
         "document.getElementById('progress'), {attributes: true});"
         "document.getElementById('steps').value = 400")
    b.click("#variables input[value='3']")
    b.wait(DONE)
    return b.js("return moves")


@case
def an_example_is_shown_unasked(b, url, shots):
    for width in (1200, 360):
        b.resize(width, 740)
        b.open(url)
        for asked in ("7 → 9", "0 → 2"):
            b.wait(f"/^Done: digit = {asked[-1]} found/.test("
                   "document.getElementById('status').textContent)")
            assert f"The model saw digit {asked[0]}" in text(b, "outcome"), text(b, "outcome")
            b.click("#example")
        b.wait("(b => b.top < innerHeight && b.bottom > 0)("
               "document.getElementById('outcome').getBoundingClientRect())")


@case
def draw_an_eight_ask_for_a_three(b, url, shots):
    draw_eight(b, url)
    b.click("#variables input[value='3']")
    b.wait(DONE)
    assert figures(b) == ["As it is", "As 3", "Difference"], figures(b)
    assert re.search("(Found|Contested): digit = 3", text(b, "outcome")), text(b, "outcome")
    assert "digit 8" in text(b, "outcome"), text(b, "outcome")
    shown = b.js("return [...document.querySelectorAll('#scores dt')].map(d => d.textContent)")
    assert shown == ["Seen as 3", "Outside opinion", "Followed", "Changed", "Mean change"], shown
    assert b.js("return document.querySelectorAll('#more-scores dt').length") >= 5
    assert b.js("return document.querySelectorAll('#check img').length") == 1
    assert b.js("return [...document.querySelectorAll('#figures a')].every(a => a.download"
                ".endsWith('.png') && a.href.startsWith('data:image/png;base64,iVBOR'))")
    b.screenshot(os.path.join(shots, "single.png"))


@case
def progress_is_shown(b, url, shots):
    draw_eight(b, url)
    assert progress_of_a_long_walk(b) >= 3, "no progress was shown"


@case
def fan_over_all_values(b, url, shots):
    draw_eight(b, url)
    b.click("#variables input[value='*']")
    assert b.js("return document.getElementById('auto').checked"), "auto is the model's default"
    b.wait(DONE)
    assert b.js("return document.querySelectorAll('#fan button').length") == 10
    b.click("#fan button:nth-child(4)")
    assert "digit = 3" in text(b, "outcome") or "Not found" in text(b, "outcome")
    assert b.js("return document.querySelectorAll('#fan [aria-pressed=true]').length") == 1
    b.screenshot(os.path.join(shots, "fan.png"))


@case
def no_earlier_answer_beside_a_new_question(b, url, shots):
    """Dimmed at once, gone where the new answer takes longer; another picture removes it at once."""
    b.open(url)
    b.wait(DONE)
    before = b.js("return document.querySelector('#figures .main img').src")
    set_steps(b, 900)
    assert b.js("return document.getElementById('answer').classList.contains('running') &&"
                "document.getElementById('judged').hidden")
    b.wait("![...document.images].some(i => i.src === '%s')" % before, 5)
    b.click("#cancel")
    assert b.js("return document.querySelector('#figures .main img').src") == before
    b.draw("#sketch", EIGHT[:1])
    assert b.js("return document.getElementById('answer').hidden")


@case
def the_slider_answers_while_it_moves(b, url, shots):
    b.open(url)
    b.wait(DONE)
    src = "document.querySelector('#figures .main img').src"
    entries, seen = b.js("return history.length"), {b.js("return " + src)}
    for place in (4, 20, 30):
        b.js("const s = document.getElementById('scale'); s.value = arguments[0];"
             "s.dispatchEvent(new Event('input'))", place)
        assert not b.js("return document.getElementById('auto').checked")
        b.wait("!document.getElementById('answer').classList.contains('running')")
        seen.add(b.js("return " + src))
    assert len(seen) >= 3, "the picture does not follow the slider"
    assert b.js("return history.length") <= entries + 1, "every move is an entry of the history"


@case
def the_answer_is_the_largest_picture_and_stays_in_view(b, url, shots):
    for width, height in ((1280, 800), (1920, 1080), (390, 844)):
        b.resize(width, height)
        b.open(url)
        b.wait(DONE)
        b.click("#variables input[value='3']")
        b.wait("/^Done: digit = 3/.test(document.getElementById('status').textContent)")
        box = b.js("const r = e => { const b = e.getBoundingClientRect(); return [b.width, b.top,"
                   "b.bottom]; }; return [r(document.querySelector('#figures .main img')),"
                   "Math.max(...[...document.querySelectorAll('main img, main canvas')].filter(i =>"
                   "i.offsetParent && !i.closest('.main')).map(i => i.getBoundingClientRect().width))]")
        assert box[0][0] > box[1], f"{width}: the answer is {box[0][0]} wide, another {box[1]}"
        if width < 1000 or b.js("return scrollY") == 0:
            assert box[0][1] >= 0 and box[0][2] <= height, f"{width}: the answer is out of view"


@case
def broken_links_say_so(b, url, shots):
    for link, words in (("#r=%%%", "damaged or cut off"),
                        ("#r=" + base64.urlsafe_b64encode(b'{"model":"none"}').decode(), "none")):
        b.open(url + link)
        b.wait("!document.getElementById('problem').hidden")
        assert words in text(b, "problem") and "Ask for the link anew" in text(b, "problem")


@case
def the_interface_is_readable(b, url, shots):
    """Every operation and schema of openapi.json, at phone width too."""
    with urllib.request.urlopen(url.rstrip("/") + "/openapi.json") as reply:
        wanted = json.load(reply)
    b.resize(390, 844)
    b.open(url.rstrip("/") + "/api.html")
    b.wait("document.querySelector('#routes section')")
    shown = b.js("return [...document.querySelectorAll('#routes h2')].map(h => h.textContent)")
    for path, methods in wanted["paths"].items():
        for method in methods:
            if method in ("get", "post", "put", "delete"):
                assert method.upper() + path in shown, f"{method} {path} is not in {shown}"
    assert b.js("return document.documentElement.scrollWidth") <= 390, "scrolls sideways"
    b.screenshot(os.path.join(shots, "api.png"))


@case
def replay_link_gives_the_same_picture(b, url, shots):
    draw_eight(b, url)
    b.js("const s = document.getElementById('scale'); s.value = 16;"
         "s.dispatchEvent(new Event('input'))")
    b.click("#variables input[value='0']")
    b.wait(DONE)
    picture = "return document.querySelector('#figures .main img').src"
    first, link, scale = b.js(picture), b.js("return location.href"), text(b, "scale-value")
    assert re.fullmatch(r"scale \d(\.\d+)?", scale), scale
    assert "#r=" in link
    b.open(link)
    b.wait(DONE)
    assert b.js(picture) == first, "the link gives another picture"
    assert text(b, "scale-value") == scale, text(b, "scale-value")


@case
def curl_line_gives_the_same_picture(b, url, shots):
    draw_eight(b, url)
    b.click("#variables input[value='3']")
    b.wait(DONE)
    line = text(b, "curl")
    reply = json.loads(subprocess.run(["sh", "-c", line], capture_output=True, check=True).stdout)
    shown = b.js("return document.querySelector('#figures .main img').src")
    assert shown.endswith(reply["counterfactuals"][0]["image"])


@case
def sample_from_the_model(b, url, shots):
    b.open(url)
    b.wait("document.querySelector('#sample-of select')")
    b.click("#invent summary")
    b.js("document.querySelector('#sample-of select').value = '7'")
    b.click("#draw-sample")
    b.wait("/drew/.test(document.getElementById('status').textContent)")
    assert not b.js("return document.getElementById('picture').hidden")


@case
def errors_in_the_servers_words(b, url, shots):
    draw_eight(b, url)
    b.click("#variables input[value='3']")
    b.wait(DONE)
    set_steps(b, 5000)
    b.wait("/out of range/i.test(document.getElementById('problem').textContent)")
    assert "1..1000" in text(b, "problem"), text(b, "problem")
    b.screenshot(os.path.join(shots, "problem.png"))
    b.errors()  # the refused request is logged by the browser as an error: expected here


def drop(b, name, kind, content):
    b.js("const t = new DataTransfer(); t.items.add(new File([Uint8Array.from(atob(arguments[2]),"
         "c => c.charCodeAt(0))], arguments[0], {type: arguments[1]}));"
         "document.body.dispatchEvent(new DragEvent('drop',"
         "{dataTransfer: t, bubbles: true, cancelable: true}))",
         name, kind, base64.b64encode(content).decode())


def drop_example(b, model, file):
    with open(os.path.join(ROOT, "examples", model, file), "rb") as f:
        drop(b, file, "image/png", f.read())


@case
def files_dropped_on_the_page(b, url, shots):
    fresh(b, url)
    with open(os.path.join(ROOT, "examples", "mnist", "7.png"), "rb") as file:
        picture = file.read()
    for name, kind, content in (("notes.txt", "text/plain", b"no picture"),
                                ("cut.png", "image/png", picture[:60]),
                                ("empty.png", "image/png", b"")):
        drop(b, name, kind, content)
        b.wait(f"document.getElementById('problem').textContent.includes('{name}')")
        assert b.js("return document.getElementById('picture').hidden"), name
        b.js("document.getElementById('problem').textContent = ''")
    drop(b, "seven.png", "image/png", picture)
    b.wait("!document.getElementById('picture').hidden")
    assert b.js("return document.getElementById('problem').hidden")
    # A picture too large to send is made smaller: 1500 x 1500 pixels of noise.
    b.js("const c = document.createElement('canvas'); c.width = c.height = 1500;"
         "const x = c.getContext('2d'), d = x.createImageData(1500, 1500);"
         "for (let i = 0; i < d.data.length; i++) d.data[i] = i % 4 === 3 ? 255 : 256 * Math.random();"
         "x.putImageData(d, 0, 0); c.toBlob(p => { const t = new DataTransfer();"
         "window.sent = p.size; t.items.add(new File([p], 'noise.png', {type: 'image/png'}));"
         "window.dispatchEvent(new DragEvent('drop', {dataTransfer: t, cancelable: true})); })")
    b.wait("/noise.png chosen/.test(document.getElementById('status').textContent)")
    assert b.js("return sent") > 700000
    b.wait("document.getElementById('picture').naturalWidth === 512")


def draw_and_ask(b, strokes, target):
    """Draws strokes on an empty pad and waits for the counterfactual of another digit."""
    b.click("#clear")
    b.js("document.querySelectorAll('#variables input').forEach(i => { i.checked = false; })")
    b.draw("#sketch", strokes)
    b.wait("/^Choose what/.test(document.getElementById('status').textContent)")
    b.click(f"#variables input[value='{target}']")
    b.wait(DONE)


@case
def drawn_digits_are_familiar(b, url, shots):
    """At most a tenth of drawn digits are unfamiliar to the model, and nearly all are seen as drawn."""
    count = strange = read = 0
    fresh(b, url)
    for digit, strokes in drawings(2):
        draw_and_ask(b, strokes, (int(digit) + 3) % 10)
        count += 1
        strange += "Unfamiliar" in text(b, "outcome")
        read += f"The model saw digit {digit}" in text(b, "outcome")
    print(f"  drawn digits: {count}, unfamiliar {strange}, seen as drawn {read}")
    assert strange <= count / 10 and read >= 0.9 * count, (count, strange, read)


@case
def a_garment_is_no_digit(b, url, shots):
    """What is unlike all the model knows is told so, with advice that helps: not a stronger change."""
    fresh(b, url)
    drop_example(b, "fashion", "trouser.png")
    b.wait("!document.getElementById('picture').hidden")
    b.click("#variables input[value='2']")
    b.wait(DONE)
    said = text(b, "outcome")
    assert "Unfamiliar picture" in said and "another model" in said, said
    assert "more convincing" not in said and "Found" not in said, said


@case
def every_example_is_in_view(b, url, shots):
    for width, height in ((1280, 800), (1920, 1080), (390, 844)):
        b.resize(width, height)
        b.open(url)
        b.wait("document.querySelectorAll('#examples button').length > 9")
        box = b.js("const e = document.getElementById('examples'); return [e.scrollHeight, e.clientHeight]")
        assert box[0] <= box[1], f"{width}: {box}"


@case
def words_go_with_what_the_question_was(b, url, shots):
    """Not found at a weak strength: the slider is named, in the page's words, and numbers are short."""
    fresh(b, url)
    drop_example(b, "mnist", "3.png")
    b.js("const s = document.getElementById('scale'); s.value = 0; s.dispatchEvent(new Event('input'))")
    b.click("#variables input[value='2']")
    b.wait("/^Done: digit = 2 not found/.test(document.getElementById('status').textContent)")
    said = text(b, "outcome")
    assert "more convincing" in said and "too weak" in said and '"auto"' not in said, said
    assert not re.search(r"\d\.\d{3}", said), said
    assert b.js("return document.getElementById('status').getBoundingClientRect().width") <= 1, "said twice"
    b.click("#variables input[value='*']")
    b.wait("/^Done: \\d+ of 10/.test(document.getElementById('status').textContent)")
    assert b.js("return document.getElementById('marks').offsetParent !== null"), "what the marks mean"


@case
def a_photograph_of_paper_becomes_ink(b, url, shots):
    fresh(b, url)
    b.js("const c = document.createElement('canvas'); c.width = 640; c.height = 480;"
         "const x = c.getContext('2d'), g = x.createLinearGradient(0, 0, 640, 480);"
         "g.addColorStop(0, '#e8e4da'); g.addColorStop(1, '#b9b4a8'); x.fillStyle = g;"
         "x.fillRect(0, 0, 640, 480); x.strokeStyle = '#23284a'; x.lineWidth = 9; x.beginPath();"
         "x.moveTo(260, 150); x.lineTo(370, 145); x.lineTo(300, 340); x.stroke();"
         "c.toBlob(p => { const t = new DataTransfer();"
         "t.items.add(new File([p], 'paper.jpg', {type: 'image/jpeg'}));"
         "window.dispatchEvent(new DragEvent('drop', {dataTransfer: t, cancelable: true})); },"
         "'image/jpeg')")
    b.wait("/paper.jpg chosen/.test(document.getElementById('status').textContent)")
    b.click("#variables input[value='3']")
    b.wait(DONE)
    assert "The model saw digit 7" in text(b, "outcome"), text(b, "outcome")
    assert "was inverted" in text(b, "outcome"), text(b, "outcome")
    b.screenshot(os.path.join(shots, "paper.png"))


@case
def back_and_forward_between_answers(b, url, shots):
    draw_eight(b, url)
    for value in "35":
        b.click(f"#variables input[value='{value}']")
        b.wait(f"/^Done: digit = {value}/.test(document.getElementById('status').textContent)")
    asked = "return performance.getEntriesByType('resource').length"
    before = b.js(asked)
    for step, seen in (("back", "digit = 3"), ("forward", "digit = 5"), ("back", "digit = 3")):
        b.js(f"history.{step}()")
        b.wait(f"document.getElementById('outcome').textContent.includes('{seen}')")
    assert b.js("return document.querySelector('#variables input:checked').value") == "3"
    assert b.js(asked) == before, "the service was asked again"
    b.js("history.back()")
    b.wait("!document.getElementById('empty').hidden")


@case
def another_model_begins_anew(b, url, shots):
    b.open(url)
    b.wait(DONE)
    if b.js("return document.getElementById('model-row').hidden"):
        raise Skip("one model is served")
    b.click("#variables input[value='3']")
    b.wait("location.hash && /digit = 3/.test(document.getElementById('outcome').textContent)")
    b.js("const m = document.getElementById('model'); m.value = 'fashion';"
         "m.dispatchEvent(new Event('change'))")
    b.wait("document.querySelector('#variables input[value=sandal]')")
    b.wait(DONE)
    assert b.js("return location.hash === '' && document.getElementById('sketch').hidden &&"
                "!/digit|stroke|draw/i.test(document.querySelector('header').textContent)")
    b.js("history.back()")
    b.wait("document.querySelector('#variables input[value=\"3\"]:checked')")
    assert "digit = 3" in text(b, "outcome"), text(b, "outcome")


@case
def problems_are_seen_where_they_happen(b, url, shots):
    b.resize(375, 667)
    b.open(url)
    b.wait("document.querySelector('#variables input')")
    b.js("scrollTo(0, 0)")
    drop(b, "notes.txt", "text/plain", b"no picture")
    b.wait("(b => b.height > 0 && b.top >= 0 && b.bottom <= innerHeight)("
           "document.getElementById('problem').getBoundingClientRect())")


@case
def an_error_leaves_no_earlier_answer(b, url, shots):
    """Not by a picture that is none, nor by a request that the service refuses."""
    with open(os.path.join(ROOT, "examples", "mnist", "7.png"), "rb") as file:
        picture = file.read()
    for fails in ("file", "request"):
        fresh(b, url)
        drop(b, "seven.png", "image/png", picture)
        b.wait("!document.getElementById('picture').hidden")
        b.js("document.getElementById('steps').value = 10")
        b.click("#variables input[value='3']")
        b.wait(DONE)
        before, link = text(b, "outcome"), b.js("return location.hash")
        assert len(link) > 1 and figures(b)
        if fails == "file":
            drop(b, "notes.png", "image/png", b"no picture")
        else:
            set_steps(b, 5000)
        b.wait("!document.getElementById('problem').hidden")
        assert b.js("return document.getElementById('answer').hidden &&"
                    "!document.getElementById('empty').hidden &&"
                    "document.querySelectorAll('#results img').length === 0 && !location.hash")
        assert b.js("return document.getElementById('picture').hidden") == (fails == "file")
        b.js("history.back()")  # it is not lost
        b.wait("!document.getElementById('answer').hidden")
        assert text(b, "outcome") == before and b.js("return location.hash") == link
    b.errors()  # the refused request is logged by the browser as an error: expected here


@case
def a_long_job_is_canceled(b, url, shots):
    draw_eight(b, url)
    b.js("document.getElementById('steps').value = 900;"
         "document.getElementById('auto').checked = true")
    b.click("#variables input[value='*']")
    b.wait("document.getElementById('progress').value > 0")
    b.click("#cancel")
    b.wait("document.getElementById('status').textContent === 'Canceled.'")
    assert b.js("return document.getElementById('problem').hidden &&"
                "document.getElementById('cancel').hidden && !document.getElementById('empty').hidden")
    b.js("document.getElementById('steps').value = 10;"
         "document.getElementById('auto').checked = false")
    b.click("#variables input[value='3']")
    b.wait(DONE)
    # With an answer before, that one comes back.
    before = text(b, "outcome")
    set_steps(b, 900)
    b.wait("!document.getElementById('cancel').hidden")
    b.click("#cancel")
    b.wait("document.getElementById('status').textContent === 'Canceled.'")
    assert text(b, "outcome") == before, text(b, "outcome")


@case
def a_service_that_is_gone_or_full_says_so(b, url, shots):
    service = Service(ARGS.program, ARGS.data_dir, "--workers", "1", "--queue-capacity", "1",
                      "--client-share", "100")
    try:
        draw_eight(b, service.url)
        # One long job runs, one waits: there is no room for a third.
        with open(os.path.join(ROOT, "examples", "mnist", "7.png"), "rb") as file:
            picture = base64.b64encode(file.read()).decode()
        send = ("return fetch('counterfactual', {method: 'POST', body: JSON.stringify({image:"
                "arguments[0], intervention: {digit: '*'}, options: {steps: 900, scale: 'auto'}}),"
                "headers: {'Content-Type': 'application/json', Prefer: 'respond-async'}})"
                ".then(r => r.status)")
        accepted, until = 0, time.monotonic() + 30
        while accepted < 2 and time.monotonic() < until:
            status = b.js(send, picture)
            assert status in (202, 429), status
            accepted += status == 202
        assert accepted == 2
        b.click("#variables input[value='3']")
        b.wait("/too many requests are waiting/i.test(document.getElementById('problem').textContent)")
        assert re.search(r"Try again in \d+ s", text(b, "problem")), text(b, "problem")
    finally:
        service.process.kill()
        service.process.wait()
    b.click("#again")
    b.wait("/cannot be reached.*start it again/.test(document.getElementById('problem').textContent)")
    assert b.js("return document.getElementById('again').offsetParent !== null")
    # It stands where the answer would, and nothing there asks for a picture and a change again.
    assert b.js("return !!document.getElementById('problem').closest('#results') &&"
                "document.getElementById('empty').offsetParent === null")
    b.errors()  # the refusals: expected here


@case
def keyboard_only(b, url, shots):
    fresh(b, url)
    focus = "return document.activeElement.id || document.activeElement.value"
    seen = []
    b.js("document.activeElement.blur(); document.querySelector('h1').tabIndex = -1;"
         "document.querySelector('h1').focus()")
    for _ in range(5):
        b.keys(TAB)
        seen.append(b.js(focus))
        if seen[-1] == "sketch":
            break
    assert seen[-1] == "sketch", seen
    b.keys(UP * 6 + SPACE + DOWN * 13 + SPACE)
    assert not b.js("return document.getElementById('pen').hidden"), "the pen is not seen"
    while b.js("return document.activeElement.name") != "do.digit":
        b.keys(TAB)
        assert len(seen) < 40, seen
        seen.append(b.js(focus))
    b.keys(SPACE + RIGHT * 7)  # each is asked about; the last stays
    assert b.js("return document.querySelector('#variables input:checked').value") == "7"
    b.wait("/^Done: digit = 7/.test(document.getElementById('status').textContent)")
    assert "digit = 7" in text(b, "outcome") or "Not found" in text(b, "outcome")


@case
def phone_width_and_dark(b, url, shots):
    b.resize(360, 740)
    b.scheme("dark")
    draw_eight(b, url)
    b.click("#variables input[value='3']")
    b.wait(DONE)
    assert b.js("return document.documentElement.scrollWidth") <= 360, "scrolls sideways"
    small = b.js("return [...document.querySelectorAll('button, .chips span')].filter(e =>"
                 "e.offsetParent && e.getBoundingClientRect().height < 36).length")
    assert small == 0, f"{small} controls are too small for a finger"
    b.screenshot(os.path.join(shots, "phone-dark.png"))


@case
def key_is_asked_for(b, url, shots):
    with tempfile.NamedTemporaryFile("w") as keys:
        keys.write("page " + hashlib.sha256(b"open sesame").hexdigest() + "\n")
        keys.flush()
        service = Service(ARGS.program, ARGS.data_dir, "--keys-file", keys.name)
        try:
            b.open(service.url)
            b.wait("!document.getElementById('key-form').hidden")
            b.keys("wrong" + ENTER)
            b.wait("!document.getElementById('key-form').hidden &&"
                   "!document.getElementById('problem').hidden")
            b.js("document.getElementById('key').value = ''")
            b.click("#key")
            b.keys("open sesame" + ENTER)
            b.wait("document.querySelector('#variables input')")
            assert b.js("return document.getElementById('problem').hidden")
            b.draw("#sketch", EIGHT)
            assert progress_of_a_long_walk(b) >= 3, "no progress came through with the key"
        finally:
            assert service.close() == 0
    b.errors()  # the refusals: expected here


@case
def a_poor_model_is_told(b, url, shots):
    b.open(url)
    b.wait(DONE)
    assert b.js("return document.getElementById('poor').hidden"), "a sound model is called poor"
    with tempfile.TemporaryDirectory() as folder:
        model = os.path.join(folder, "mnist")
        shutil.copytree(os.path.join(ROOT, "models", "mnist"), model)
        with open(os.path.join(model, "manifest.json")) as file:
            manifest = json.load(file)
        manifest["warning"] = "Not a medical device."
        manifest["name"] = "of-our-own"
        manifest["quality"] = {"poor": True, "poor_because": "results blur", "would_help": "time"}
        with open(os.path.join(model, "manifest.json"), "w") as file:
            json.dump(manifest, file)
        service = Service(ARGS.program, ARGS.data_dir, "--models", model)
        try:
            b.open(service.url)
            b.wait("!document.getElementById('poor').hidden")
            said, warned = text(b, "poor"), text(b, "warning")
            assert b.js("return document.getElementById('examples-row').hidden &&"
                        "document.getElementById('invent').open"), "no examples: the model can draw one"
        finally:
            code = service.close()
    assert code == 0 and "results blur. What would help: time." in said, said
    assert warned == "Not a medical device.", warned


SETTLED = ("!document.getElementById('answer').hidden &&"
           "!document.getElementById('answer').classList.contains('running')")


@contextlib.contextmanager
def causal_service():
    """A service with a model of two continuous causes, thickness -> intensity, of random networks."""
    writer = os.path.join(os.path.dirname(os.path.realpath(ARGS.program)), "tests", "browser",
                          "test_causal_bundle")
    if not os.path.isfile(writer):
        raise Skip(f"{writer} is not built (make tests)")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([writer, folder], check=True)
        service = Service(ARGS.program, ARGS.data_dir, "--models", folder)
        try:
            yield service
        finally:
            code = service.close()
        assert code == 0


def causal_page(b, service, model="mnist"):
    b.open(service.url)
    b.wait("document.querySelector('#variables input')")
    drop_example(b, model, "7.png")
    b.wait("!document.getElementById('picture').hidden")


def continuous(b, name):
    """What the control of a continuous variable says, and where its slider stands."""
    return b.js("const i = document.querySelector(`input[name='do.${arguments[0]}']`);"
                "return [i.closest('.continuous').querySelector('output').textContent,"
                "Number(i.value)]", name)


def node(b, name):
    return b.js("return document.querySelector(`#graph [data-name='${arguments[0]}']`)"
                ".getAttribute('class')", name)


@case
def a_slider_moves_picture_and_descendants(b, url, shots):
    with causal_service() as service:
        causal_page(b, service)
        src = "return document.querySelector('#figures .main img').src"
        seen, places, intensities = set(), [], []
        for share in (0.3, 0.6, 0.95):
            b.drag("input[name='do.thickness']", (0.5, share - 0.05, share))
            b.wait(SETTLED + " && /^Done/.test(document.getElementById('status').textContent)")
            seen.add(b.js(src))
            places.append(continuous(b, "thickness")[1])
            words, place = continuous(b, "intensity")
            shown = re.fullmatch(r"follows its causes: ([\d.]+), observed ([\d.]+)", words)
            assert shown, words
            intensities.append(float(shown.group(1)))
            assert abs(min(255, max(60, intensities[-1])) - place) < 1.5, (words, place)
        said = continuous(b, "thickness")[0]
        assert re.fullmatch(r"set to [\d.]+, observed [\d.]+", said), said
        assert len(seen) == 3, "the picture does not follow the slider"
        assert places[0] < places[1] < places[2] and places[2] > 5, places
        # intensity = own part + 20 * thickness, in figures of three digits
        for i in (1, 2):
            slope = (intensities[i] - intensities[0]) / (places[i] - places[0])
            assert abs(slope - 20) < 1.2, (places, intensities)
        assert [node(b, n) for n in ("digit", "thickness", "intensity", "image")] == [
            "node free", "node set", "node follows", "node follows"]
        assert "Followed" in text(b, "scores"), text(b, "scores")
        b.screenshot(os.path.join(shots, "causal.png"))
        b.click("[aria-label='intensity: hold']")
        b.wait("document.querySelector('#graph .held') &&" + SETTLED)
        assert continuous(b, "intensity")[0].startswith("held at"), continuous(b, "intensity")
        assert "Followed" not in text(b, "scores")
        link = b.js("return location.href")
        picture = b.js(src)
        b.click("[aria-label='intensity: follow']")
        b.click("[aria-label='thickness: as it is']")
        assert b.js("return document.getElementById('answer').hidden && !location.hash")
        b.open(link)
        b.wait(SETTLED)
        assert b.js(src) == picture and node(b, "intensity") == "node held"


def intensity_under(thickness, factual_thickness, factual_intensity):
    """By MorphoMNIST's own mechanism, with the individual's noise."""
    noise = math.log((factual_intensity - 64) / (255 - factual_intensity)) - 2 * factual_thickness
    return 64 + 191 / (1 + math.exp(-(2 * thickness + noise)))


@case
def the_fitted_model_follows_its_slider(b, url, shots):
    """morphomnist, fitted and trained on data: the picture follows, and intensity its mechanism."""
    if not os.path.isdir(os.path.join(ARGS.data_dir, "models", "morphomnist")):
        raise Skip("there is no model morphomnist")
    service = Service(ARGS.program, ARGS.data_dir, "--models", "morphomnist")
    try:
        causal_page(b, service, "morphomnist")
        b.click("#variables input[name='do.digit'][value='']")  # the example that is shown sets it
        seen = set()
        for share in (0.2, 0.35):
            b.drag("input[name='do.thickness']", (0.5, share - 0.05, share))
            b.wait(SETTLED + " && /^Done/.test(document.getElementById('status').textContent)", 60)
            seen.add(b.js("return document.querySelector('#figures .main img').src"))
            words, place = continuous(b, "thickness")
            before = float(re.search(r"observed ([\d.]+)", words)[1])
            shown = re.fullmatch(r"follows its causes: ([\d.]+), observed ([\d.]+)",
                                 continuous(b, "intensity")[0])
            want = intensity_under(place, before, float(shown[2]))
            assert abs(float(shown[1]) - want) < 6, (shown[0], words, want)
        assert len(seen) == 2, "the picture does not follow the slider"
        assert [node(b, n) for n in ("digit", "thickness", "intensity", "image")] == [
            "node free", "node set", "node follows", "node follows"]
        b.screenshot(os.path.join(shots, "morphomnist.png"))
    finally:
        code = service.close()
    assert code == 0


@case
def a_film_strip_of_a_variable(b, url, shots):
    with causal_service() as service:
        b.resize(390, 844)
        causal_page(b, service)
        b.click("#variables input[value='*']")
        b.wait("document.querySelectorAll('#fan button').length === 3")
        b.click("[aria-label='thickness: film strip']")  # ends the fan over all digits
        b.wait("document.querySelectorAll('#fan button').length === 8 &&" + SETTLED)
        labels = b.js("return [...document.querySelectorAll('#fan span')].map(s =>"
                      "parseFloat(s.textContent))")
        assert labels == sorted(labels) and labels[0] == 0.9 and labels[-1] == 6, labels
        moved = []
        for i in (1, 8):
            b.click(f"#fan button:nth-child({i})")
            assert abs(continuous(b, "thickness")[1] - labels[i - 1]) < 0.03
            moved.append(float(re.search(r"causes: ([\d.]+)", continuous(b, "intensity")[0])[1]))
        assert abs(moved[1] - moved[0] - 20 * 5.1) < 1.1, moved
        assert b.js("return document.documentElement.scrollWidth") <= 390, "scrolls sideways"
        b.screenshot(os.path.join(shots, "strip.png"))
        b.click("#variables input[name='do.digit'][value='1']")  # the same in all: not said of each
        b.wait("/digit = 1, /.test(document.getElementById('outcome').textContent) &&" + SETTLED)
        again = b.js("return [...document.querySelectorAll('#fan span')].map(s => s.textContent)")
        assert len(again) == 8 and not any("," in label for label in again), again
        link = b.js("return location.href")
        b.open(link)
        b.wait("document.querySelectorAll('#fan button').length === 8 &&" + SETTLED)
        assert b.js("return document.querySelector(\"[aria-label='thickness: film strip']\")"
                    ".getAttribute('aria-pressed')") == "true"


@case
def names_and_hosts(b, url, shots):
    b.open(url)
    b.wait("document.querySelector('#variables input')")
    unnamed = b.js("return [...document.querySelectorAll('button,input,select,canvas,progress,img')]"
                   ".filter(e => e.offsetParent && !e.closest('button[aria-label]') && !(e.getAttribute('aria-label') || e.alt ||"
                   "e.labels?.length || e.textContent.trim())).map(e => e.outerHTML)")
    assert unnamed == [], unnamed
    hosts = b.js("return [...new Set(performance.getEntriesByType('resource')"
                 ".map(r => new URL(r.name).host))]")
    assert hosts == [b.js("return location.host")], hosts


@case
def axe_finds_nothing_serious(b, url, shots):
    path = find_axe()
    draw_eight(b, url)
    b.click("#variables input[value='3']")
    b.wait(DONE)
    check_axe(b, path)
    b.open(url.rstrip("/") + "/api.html")
    b.wait("document.querySelector('#routes section')")
    check_axe(b, path)
    with causal_service() as service:
        causal_page(b, service)
        b.drag("input[name='do.thickness']", (0.5, 0.8))
        b.wait(SETTLED)
        check_axe(b, path)


def check_axe(b, path):
    for scheme in ("light", "dark"):
        b.scheme(scheme)
        time.sleep(0.3)
        with open(path, encoding="utf-8") as source:
            b.js(source.read())
        b.js("window.axeDone = null; axe.run().then(r => { window.axeDone = r; })")
        b.wait("window.axeDone")
        bad = b.js("return axeDone.violations.filter(v => ['serious', 'critical']"
                   ".includes(v.impact)).map(v => v.id + ': ' + v.nodes[0].html)")
        assert bad == [], bad


def take_picture(program, data_dir, path):
    """The page with the seven of the examples under every value of its digit, the three chosen."""
    service, b = Service(program, data_dir), Browser()
    try:
        b.resize(1280, 740)
        b.open(service.url)
        b.wait("document.querySelector('#variables input')")
        with open(os.path.join(data_dir, "examples", "mnist", "7.png"), "rb") as f:
            drop(b, "7.png", "image/png", f.read())
        b.wait("!document.getElementById('picture').hidden")
        b.click("#variables input[value='*']")
        b.wait("/of 10 found/.test(document.getElementById('status').textContent)")
        b.click("#fan button:nth-child(4)")
        b.resize(1280, b.js("scrollTo(0, 0);"  # as far as question and answer go
                            "return Math.ceil(document.getElementById('change').getBoundingClientRect().bottom) + 16"))
        with open(path, "wb") as out:
            out.write(base64.b64decode(b.call("GET", "/screenshot")))
    finally:
        b.close()
        service.close()


def draw_all(program, data_dir, stem):
    """Counterfactuals of fifty drawings; the target of the k-th is (digit + 1 + k mod 9) mod 10."""
    service, b = Service(program, data_dir), Browser()
    images, targets = b"", b""
    try:
        fresh(b, service.url)
        for k, (digit, strokes) in enumerate(drawings()):
            target = (int(digit) + 1 + k % 9) % 10
            draw_and_ask(b, strokes, target)
            source = b.js("return document.querySelector('#figures .main img').src")
            images += b"".join(grey_png.rows(base64.b64decode(source.partition(",")[2])))
            targets += bytes([target])
    finally:
        b.close()
        service.close()
    with open(stem + "-images", "wb") as f:
        f.write(struct.pack(">IIII", 0x803, len(targets), 28, 28) + images)
    with open(stem + "-targets", "wb") as f:
        f.write(struct.pack(">II", 0x801, len(targets)) + targets)


def main():
    options = argparse.ArgumentParser()
    options.add_argument("program")
    options.add_argument("--data-dir", default=ROOT)
    options.add_argument("--shots")
    options.add_argument("--filter", default="")
    options.add_argument("--picture")
    options.add_argument("--drawings")
    args = options.parse_args(namespace=ARGS)
    if args.picture:
        take_picture(args.program, args.data_dir, args.picture)
        return 0
    if args.drawings:
        draw_all(args.program, args.data_dir, args.drawings)
        return 0
    if not shutil.which("chromedriver"):
        print("  skip: there is no chromedriver (Debian: chromium-driver)")
        print(f"browser 0 passed, 0 failed, {len(CASES)} skipped")
        return 0
    shots = args.shots or tempfile.mkdtemp(prefix="dscm-shots-")
    os.makedirs(shots, exist_ok=True)
    service = Service(args.program, args.data_dir)
    passed = failed = skipped = 0
    try:
        passed, failed, skipped = run_cases(args, service, shots)
    finally:
        code = service.close()
    if code != 0:
        failed += 1
        print(f"  FAIL the service ended with status {code}")
    if not args.shots:
        shutil.rmtree(shots, ignore_errors=True)
    print(f"browser {passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


def run_cases(args, service, shots):
    passed = failed = skipped = 0
    for run in CASES:
        if args.filter not in run.__name__:
            continue
        try:
            browser = Browser()
        except NoBrowser as why:
            skipped = len(CASES) - passed - failed
            print(f"  skip {run.__name__} and what follows: the browser does not start here: {why}")
            break
        try:
            run(browser, service.url, shots)
            errors = browser.errors()
            assert not errors, errors
            passed += 1
            print(f"  ok   {run.__name__}")
        except Skip as why:
            skipped += 1
            print(f"  skip {run.__name__}: {why}")
        except (AssertionError, RuntimeError) as error:
            failed += 1
            print(f"  FAIL {run.__name__}: {error}")
            browser.screenshot(os.path.join(shots, f"failed-{run.__name__}.png"))
        finally:
            browser.close()
    return passed, failed, skipped


if __name__ == "__main__":
    sys.exit(main())
