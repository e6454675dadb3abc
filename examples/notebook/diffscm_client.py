"""Asks a diffscm service for counterfactuals and shows them in Jupyter.

    service = Service("http://localhost:8080")
    service.models()                                    # names, variables, labels
    answer = service.counterfactual("7.png", {"digit": [3, 8]}, model="mnist")
    answer                                              # a strip of pictures in Jupyter
    answer.pictures[1]                                  # (height, width) or (height, width, 3), uint8

Needs Python 3.9 and numpy. Nothing else is imported: PNG files are read and written here.
"""
import base64
import json
import struct
import urllib.error
import urllib.request
import zlib

import numpy


class ServiceError(Exception):
    """What the service refused, in its words. status: of HTTP, or None where there was no answer."""

    def __init__(self, status, title, detail, errors=()):
        self.status, self.title, self.detail, self.errors = status, title, detail, list(errors)
        places = "".join(f" {e.get('pointer', '')}: {e.get('detail', '')}" for e in self.errors)
        super().__init__(f"{title}: {detail}{places}" if detail else title + places)


# ---- PNG
_MAGIC = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}


def _unfilter(rows, height, stride, channels):
    """Undoes the filters of PNG rows; rows: bytes of height times (1 + stride)."""
    out = bytearray(height * stride)
    before = bytearray(stride)
    for y in range(height):
        kind = rows[y * (stride + 1)]
        row = bytearray(rows[y * (stride + 1) + 1:(y + 1) * (stride + 1)])
        for x in range(stride if kind else 0):
            left = row[x - channels] if x >= channels else 0
            up, corner = before[x], before[x - channels] if x >= channels else 0
            if kind == 1:
                guess = left
            elif kind == 2:
                guess = up
            elif kind == 3:
                guess = (left + up) // 2
            elif kind == 4:
                p = left + up - corner
                guess = min((abs(p - left), 0, left), (abs(p - up), 1, up), (abs(p - corner), 2, corner))[2]
            else:
                raise ValueError(f"PNG: filter {kind}")
            row[x] = (row[x] + guess) & 255
        out[y * stride:(y + 1) * stride] = before = row
    return bytes(out)


def read_png(blob):
    """Pixels of a PNG file with 8 bits a channel: (height, width), or (height, width, channels), uint8."""
    if blob[:8] != _MAGIC:
        raise ValueError("not a PNG file")
    at, data, head = 8, b"", None
    while at + 8 <= len(blob):
        size, kind = struct.unpack(">I4s", blob[at:at + 8])
        part = blob[at + 8:at + 8 + size]
        if kind == b"IHDR":
            head = struct.unpack(">IIBBBBB", part)
        elif kind == b"IDAT":
            data += part
        at += size + 12
    if not head or head[2] != 8 or head[3] not in _CHANNELS or head[6]:
        raise ValueError("PNG: only 8 bits a channel, without a palette and without interlacing, are read")
    width, height, channels = head[0], head[1], _CHANNELS[head[3]]
    pixels = _unfilter(zlib.decompress(data), height, width * channels, channels)
    shape = (height, width) if channels == 1 else (height, width, channels)
    return numpy.frombuffer(pixels, numpy.uint8).reshape(shape)


def write_png(pixels):
    """The PNG file of (height, width) or (height, width, 3) pixels; floats are taken as 0..1."""
    pixels = numpy.asarray(pixels)
    if pixels.dtype.kind == "f":
        pixels = numpy.rint(numpy.clip(pixels, 0, 1) * 255)
    pixels = pixels.astype(numpy.uint8)
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3):
        raise ValueError(f"pixels of shape {pixels.shape}: must be (height, width) or (height, width, 3)")

    def chunk(kind, part):
        return struct.pack(">I", len(part)) + kind + part + struct.pack(">I", zlib.crc32(kind + part))

    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", width, height, 8, 0 if pixels.ndim == 2 else 2, 0, 0, 0)
    return _MAGIC + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def strip(pictures, gap=2, zoom=4):
    """Pictures of one size side by side, each pixel `zoom` wide, `gap` white pixels between them: (height,
    width, 3)."""
    parts = []
    for picture in pictures:
        picture = numpy.asarray(picture)
        if picture.ndim == 2:
            picture = numpy.repeat(picture[:, :, None], 3, 2)
        if parts:
            parts.append(numpy.full((picture.shape[0] * zoom, gap * zoom, 3), 255, numpy.uint8))
        parts.append(picture.repeat(zoom, 0).repeat(zoom, 1))
    return numpy.concatenate(parts, 1)


# ---- answers
class Answer:
    """Counterfactuals of one picture. reply: the service's JSON; factual, reconstruction: pixels; pictures,
    differences, uncertainties: a list each, in the order asked for (empty where not asked for)."""

    def __init__(self, reply):
        def pixels(text):
            return read_png(base64.b64decode(text))

        each = reply["counterfactuals"]
        self.reply = reply
        self.factual = pixels(reply["factual"])
        self.reconstruction = pixels(reply["reconstruction"])
        self.pictures = [pixels(c["image"]) for c in each]
        self.differences = [pixels(c["difference"]) for c in each if "difference" in c]
        self.uncertainties = [pixels(c["uncertainty"]) for c in each if "uncertainty" in c]
        self.interventions = [c["intervention"] for c in each]
        self.outcomes = [c["outcome"] for c in each]
        self.scores = [c["scores"] for c in each]

    def strip(self, zoom=4):
        """The factual picture, then the counterfactuals: (height, width, 3)."""
        return strip([self.factual, *self.pictures], zoom=zoom)

    def maps(self, zoom=4):
        """Differences and uncertainties in one row: (height, width, 3)."""
        return strip([*self.differences, *self.uncertainties], zoom=zoom)

    def _repr_png_(self):
        return write_png(self.strip())

    def __repr__(self):
        told = ", ".join(f"{i} {o}" for i, o in zip(self.interventions, self.outcomes))
        return f"<{self.reply['model']['name']}: {told}>"


class Service:
    """A running `diffscm serve`. key: where it wants one; timeout: seconds for one answer."""

    def __init__(self, url="http://localhost:8080", key=None, timeout=120):
        self.url, self.key, self.timeout = url.rstrip("/"), key, timeout

    def _call(self, path, body=None):
        headers = {"Accept": "application/json"}
        if body is not None:
            headers.update({"Content-Type": "application/json", "Prefer": "wait=60"})
            body = json.dumps(body).encode()
        if self.key:
            headers["Authorization"] = "Bearer " + self.key
        request = urllib.request.Request(self.url + path, data=body, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as reply:
                return reply.status, json.load(reply)
        except urllib.error.HTTPError as error:
            try:
                told = json.loads(error.read())
            except ValueError:
                told = {}
            raise ServiceError(error.code, told.get("title", f"HTTP status {error.code}"), told.get("detail", ""),
                               told.get("errors", ())) from None
        except OSError as error:
            raise ServiceError(None, f"no answer from {self.url}", str(error)) from None

    def models(self):
        """What the service has: a list of {"name", "variables", ...}."""
        return self._call("/models")[1]["models"]

    def model(self, name):
        """All about one model: samplers, defaults, quality, warning, ..."""
        return self._call("/models/" + name)[1]

    def counterfactual(self, picture, do, model=None, uncertainty=False, **options):
        """do: {"digit": 3}; a list of values, {"digit": [3, 8]}, asks for one answer each. picture: a PNG
        or JPEG file's name or bytes, or an array as write_png takes it. options: as in the API: steps, scale,
        sampler, resize, ..."""
        if isinstance(picture, str):
            with open(picture, "rb") as file:
                picture = file.read()
        elif not isinstance(picture, bytes):
            picture = write_png(picture)
        lists = [name for name, value in do.items() if isinstance(value, (list, tuple))]
        if len(lists) > 1:
            raise ValueError(f"do: {', '.join(lists)}: only one variable may have a list of values")
        fan = [{**do, lists[0]: value} for value in do[lists[0]]] if lists else [do]
        body = {"image": base64.b64encode(picture).decode(), "interventions": [_labels(d) for d in fan],
                "options": {**options, "return": ["factual", "reconstruction", "counterfactual", "difference"] +
                                                 (["uncertainty"] if uncertainty else [])}}
        if model:
            body["model"] = model
        status, reply = self._call("/counterfactual", body)
        if status == 202:
            raise ServiceError(202, "the answer takes more than a minute", f"job {reply.get('id', '')}")
        return Answer(reply)


def _labels(do):
    """Integers of numpy and the like as JSON has them."""
    return {name: value.item() if isinstance(value, numpy.generic) else value for name, value in do.items()}
