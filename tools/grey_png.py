"""Reads and writes grey PNG files without a library: for scripts that must run wherever Python does."""
import struct
import zlib


def rows(data):
    """The rows of an 8-bit grey PNG without interlacing, given as bytes: what diffscm writes."""
    at, body = 8, b""
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at:at + 8])
        if kind == b"IHDR":
            width, height, depth, colour = struct.unpack(">IIBB", data[at + 8:at + 18])
            if (depth, colour) != (8, 0):
                raise ValueError("not an 8-bit grey picture")
        if kind == b"IDAT":
            body += data[at + 8:at + 8 + size]
        at += 12 + size
    flat, found, above = zlib.decompress(body), [], bytes(width)
    for y in range(height):
        kind, line = flat[y * (width + 1)], bytearray(flat[y * (width + 1) + 1:(y + 1) * (width + 1)])
        for x in range(width):
            left, corner = (line[x - 1], above[x - 1]) if x else (0, 0)
            guess = left + above[x] - corner
            paeth = min((left, above[x], corner), key=lambda v: abs(guess - v))
            line[x] = (line[x] + (0, left, above[x], (left + above[x]) // 2, paeth)[kind]) & 255
        found.append(bytes(line))
        above = line
    return found


def png(width, height, pixels):
    """An 8-bit grey PNG of (height, width) pixels."""
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    lines = b"".join(b"\0" + bytes(pixels[y * width:(y + 1) * width]) for y in range(height))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(lines, 9)) + chunk(b"IEND", b""))
