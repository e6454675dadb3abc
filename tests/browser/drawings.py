"""Digits as a hand draws them on the pad: strokes of the ten digits in a unit square, and their variants."""
import math


def arc(cx, cy, rx, ry, start, end, count=14):
    """Points of an ellipse, angles in degrees, 0 to the right and 90 down."""
    points = []
    for k in range(count + 1):
        angle = math.radians(start + (end - start) * k / count)
        points.append((cx + rx * math.cos(angle), cy + ry * math.sin(angle)))
    return points


DIGITS = {
    "0": [arc(.5, .5, .32, .48, -90, 270, 24)],
    "1": [[(.38, .15), (.52, .02), (.52, .98)]],
    "2": [arc(.48, .26, .3, .25, 190, 380) + [(.2, .95), (.85, .95)]],
    "3": [arc(.45, .26, .28, .24, 200, 440) + arc(.45, .72, .32, .26, -75, 150)],
    "4": [[(.55, .03), (.15, .62), (.85, .62)], [(.62, .3), (.62, .98)]],
    "5": [[(.75, .05), (.28, .05), (.24, .45)] + arc(.45, .68, .32, .28, -110, 140)],
    "6": [[(.65, .03), (.35, .35)] + arc(.48, .7, .27, .27, 200, 540, 22)],
    "7": [[(.15, .08), (.82, .08), (.4, .97)]],
    "8": [arc(.5, .26, .24, .22, 90, 450, 20), arc(.5, .72, .28, .24, -90, 270, 20)],
    "9": [arc(.48, .3, .26, .26, 0, 360, 20) + [(.74, .3), (.66, .97)]],
}
# (slant, width, height) of the square on a pad of 280 pixels
VARIANTS = [(0, 120, 190), (-.25, 130, 180), (.2, 110, 200), (0, 150, 170), (-.12, 100, 160)]


def drawings(variants=len(VARIANTS)):
    """(digit, strokes in the pad's pixels) of every digit in so many variants."""
    for slant, width, height in VARIANTS[:variants]:
        for digit, strokes in DIGITS.items():
            yield digit, [[(round(140 + (x - .5 - slant * (y - .5)) * width),
                            round(140 + (y - .5) * height)) for x, y in stroke] for stroke in strokes]
