#!/usr/bin/python3
"""Writes reference.h: precision, recall, Fréchet distance and correlations by NumPy and SciPy, which
test_distribution.c and test_traits.c compare with (needs python3-scipy; not run by tests)."""
import os

import numpy as np
from scipy.linalg import sqrtm
from scipy.spatial.distance import cdist

HERE = os.path.dirname(os.path.abspath(__file__))
ITEMS, REALS, WIDTH, CLASSES, K = 90, 120, 6, 3, 5


def features(count, salt, gain):
    """The same whole numbers over 1000 as in the test, so that both have the same data."""
    i, j = np.mgrid[0:count, 0:WIDTH]
    base = ((i * 7919 + j * 104729 + i * i * (j + 1) * 37 + salt * 15485863) % 1009) / 1000.0
    return (base * gain + (i % CLASSES)[:, :] * 0.4).astype(np.float32).astype(np.float64)


def within(points, point_class, centres, centre_class):
    inside = total = 0
    for c in range(CLASSES):
        p, q = points[point_class == c], centres[centre_class == c]
        own = np.sort(cdist(q, q), axis=1)[:, K]  # column 0 is the point itself
        d = cdist(p, q)
        inside += np.any((d <= own) & (d > 0), axis=1).sum()
        total += len(p)
    return inside / total


def frechet(a, b):
    root = sqrtm(np.cov(a.T) @ np.cov(b.T))
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(np.cov(a.T) + np.cov(b.T) - 2 * root.real)


results, reals = features(ITEMS, 1, 0.6), features(REALS, 2, 0.55)
targets, labels = np.arange(ITEMS) % CLASSES, np.arange(REALS) % CLASSES
own = (np.arange(ITEMS) + 1) % CLASSES
means = np.array([reals[labels == c].mean(0) for c in range(CLASSES)])
shift = reals[:ITEMS] - means[own], results - means[targets]
lines = {
    "PRECISION": within(results, targets, reals, labels),
    "RECALL": within(reals, labels, results, targets),
    "REAL_PRECISION": within(reals, labels, reals, labels),
    "FRECHET": frechet(results, reals),
}
for t in range(4):
    lines[f"CORRELATION_{t}"] = np.corrcoef(shift[0][:, t], shift[1][:, t])[0, 1]
with open(os.path.join(HERE, "reference.h"), "w", encoding="ascii") as out:
    out.write("/* Written by make_reference.py. */\n")
    for name, value in lines.items():
        out.write(f"#define REFERENCE_{name:{max(map(len, lines))}} {value:.12g}\n")
