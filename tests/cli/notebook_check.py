"""Uses examples/notebook/diffscm_client.py against a service: PYTHON notebook_check.py ROOT URL. Needs numpy,
so the runner may start it by another Python than its own."""
import sys, zlib

ROOT, URL = sys.argv[1:]
sys.path.insert(0, ROOT + "/examples/notebook")
import numpy
import diffscm_client
from diffscm_client import Service, ServiceError, read_png, strip, write_png


def refused(call, *parts):
    try:
        call()
    except (ServiceError, ValueError, OSError) as error:
        for part in parts:
            assert part in str(error), (part, str(error))
        return error
    raise AssertionError("not refused: " + str(parts))


# PNG files survive, of both kinds and whatever filters a row has.
draw = numpy.random.default_rng(1)
for shape in ((5, 7), (5, 7, 3)):
    pixels = draw.integers(0, 256, shape, numpy.uint8)
    assert (read_png(write_png(pixels)) == pixels).all()
    rows, channels = pixels.reshape(5, -1).astype(int), 3 if len(shape) == 3 else 1
    left = numpy.pad(rows, ((0, 0), (channels, 0)))[:, :rows.shape[1]]
    up = numpy.pad(rows, ((1, 0), (0, 0)))[:5]
    corner = numpy.pad(rows, ((1, 0), (channels, 0)))[:5, :rows.shape[1]]
    guess = left + up - corner
    distances = numpy.stack([abs(guess - left), abs(guess - up), abs(guess - corner)])
    paeth = numpy.choose(distances.argmin(0), [left, up, corner])
    for kind, predicted in enumerate([0 * rows, left, up, (left + up) // 2, paeth]):
        filtered = ((rows - predicted) & 255).astype(numpy.uint8)
        data = zlib.compress(b"".join(bytes([kind]) + row.tobytes() for row in filtered))
        whole = write_png(pixels)
        at = whole.index(b"IDAT") - 4
        end = whole.index(b"IEND") - 4
        made = whole[:at] + len(data).to_bytes(4, "big") + b"IDAT" + data + bytes(4) + whole[end:]
        assert (read_png(made) == pixels).all(), kind
assert (read_png(write_png(numpy.array([[0.0, 1.0, 2.0]]))) == [[0, 255, 255]]).all()
refused(lambda: read_png(b"GIF89a"), "not a PNG")
refused(lambda: write_png(numpy.zeros((2, 2, 4))), "(2, 2, 4)")
row = strip([numpy.zeros((2, 3), numpy.uint8), numpy.full((2, 3, 3), 9, numpy.uint8)], gap=1, zoom=2)
assert row.shape == (4, 14, 3) and row[0, 0, 0] == 0 and row[0, 6, 0] == 255 and row[0, 13, 2] == 9

service = Service(URL)
names = [m["name"] for m in service.models()]
assert names == ["mnist"], names
assert service.model("mnist")["defaults"]["sampler"], service.model("mnist")
seven = ROOT + "/examples/mnist/7.png"
answer = service.counterfactual(seven, {"digit": [numpy.int64(3), "8"]}, uncertainty=True, steps=5)
assert [i["digit"] for i in answer.interventions] == ["3", "8"], answer.interventions
assert (answer.factual == read_png(open(seven, "rb").read())).all()
assert len(answer.pictures) == len(answer.differences) == len(answer.uncertainties) == 2
assert answer.pictures[0].shape == (28, 28) and (answer.pictures[0] != answer.pictures[1]).any()
assert answer.differences[0].shape == (28, 28, 3) and answer.uncertainties[0].max() > 0
assert answer.strip(zoom=1).shape == (28, 3 * 28 + 2 * 2, 3) and answer.maps(zoom=1).shape[1] == 4 * 28 + 3 * 2
assert (read_png(answer._repr_png_()) == answer.strip()).all()
assert "mnist" in repr(answer) and answer.outcomes[1] in repr(answer)
# The same from pixels, alone: one answer, and no map that was not asked for.
again = service.counterfactual(answer.factual, {"digit": 8}, model="mnist", steps=5)
assert (again.pictures[0] == answer.pictures[1]).all() and again.uncertainties == []
assert again.scores[0]["uncertainty"] is None and answer.scores[0]["uncertainty"] > 0

error = refused(lambda: service.counterfactual(seven, {"digit": 11}), "11")
assert error.status == 422 or error.status == 400, error.status
refused(lambda: service.counterfactual(seven, {"colour": 1}), "colour")
refused(lambda: service.counterfactual(seven, {"digit": [1], "size": [2]}), "digit, size")
refused(lambda: service.counterfactual("absent.png", {"digit": 1}), "absent.png")
refused(lambda: service.model("nothing"), "nothing")
assert refused(lambda: Service("http://127.0.0.1:1").models(), "127.0.0.1:1").status is None
print("notebook module works")
