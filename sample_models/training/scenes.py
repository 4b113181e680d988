"""Pictures to train and measure the upscaler on, all drawn here: no photographs, no fonts.

A scene has a sky or wall, a floor, patterned shapes, twigs with leaves, grass, wires and signs
with writing of invented letters. It is painted at SUPERSAMPLING times its size and averaged.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw

from training.textures import Generator, Picture, noise, pattern

SUPERSAMPLING = 3


def ink(generator: Generator) -> tuple[int, int, int]:
    red, green, blue = generator.integers(0, 256, 3).tolist()
    return red, green, blue


def scene(seed: int, height: int, width: int) -> Picture:
    """The picture of that seed, h×w×3 within 0 to 1."""
    generator = np.random.default_rng(seed)
    high, wide = height * SUPERSAMPLING, width * SUPERSAMPLING
    image = as_image(background(generator, high, wide))
    for _ in range(generator.integers(2, 7)):
        patterned_shape(generator, image)
    ornaments = (leaves, leaves, grass, wires, sign, sign, polygons)
    for index in generator.permutation(len(ornaments))[: generator.integers(3, 6)]:
        ornaments[index](generator, image)
    light = 1 + 0.12 * noise(generator, high, wide, 2.2)[..., None]
    pixels = np.asarray(image, np.float32) / 255 * light
    blocks = pixels.reshape(height, SUPERSAMPLING, width, SUPERSAMPLING, 3)
    return np.clip(blocks.mean((1, 3)), 0, 1).astype(np.float32)


def as_image(picture: Picture) -> Image.Image:
    return Image.fromarray(np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8))


def background(generator: Generator, high: int, wide: int) -> Picture:
    """Clouds above a floor, or one wall."""
    period = generator.uniform(5, 20) * SUPERSAMPLING
    if generator.random() < 0.4:
        return pattern(generator, high, wide, period)
    blue = np.linspace(generator.uniform(0.3, 0.6), 0.85, high, dtype=np.float32)[:, None]
    clouds = 0.12 * noise(generator, high, wide, 1.8)
    sky = np.stack([blue + clouds, 0.1 + blue + clouds, np.full_like(clouds, 0.9)], axis=-1)
    horizon = int(generator.uniform(0.4, 0.8) * high)
    sky[horizon:] = pattern(generator, high - horizon, wide, period)
    return sky


def patterned_shape(generator: Generator, image: Image.Image) -> None:
    """A ball, a box or a polygon, patterned and shaded, with its shadow behind."""
    size = int(generator.uniform(0.15, 0.5) * min(image.size))
    left = int(generator.uniform(-0.2, 1) * image.width)
    top = int(generator.uniform(-0.1, 0.9) * image.height)
    mask = Image.new("L", (size, size))
    draw = ImageDraw.Draw(mask)
    shade = np.linspace(1.1, generator.uniform(0.4, 0.9), size, dtype=np.float32)[:, None, None]
    match generator.integers(3):
        case 0:
            draw.ellipse((0, 0, size - 1, size - 1), fill=255)
            row, column = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j].astype(np.float32)
            facing = np.sqrt(np.maximum(1 - row**2 - column**2, 0))
            shade = (0.25 + 0.85 * np.clip(0.7 * facing - 0.5 * row - 0.4 * column, 0, 1))[
                ..., None
            ]
        case 1:
            draw.rectangle((0, size // 4, size, size), fill=255)
        case _:
            corners = int(generator.integers(3, 8))
            turn = generator.uniform(0, 360)
            draw.regular_polygon((size // 2, size // 2, size // 2), corners, turn, fill=255)
    image.paste((20, 20, 25), (left + size // 20, top + size // 20), mask.point(lambda v: v // 3))
    period = generator.uniform(3, 16) * SUPERSAMPLING
    image.paste(as_image(pattern(generator, size, size, period) * shade), (left, top), mask)


def leaves(generator: Generator, image: Image.Image) -> None:
    """A twig that bends, with pointed leaves on both sides."""
    draw = ImageDraw.Draw(image)
    base = np.array([generator.uniform(60, 160), generator.uniform(100, 190), 60]) / 255
    for _ in range(generator.integers(3, 9)):
        x, y = generator.uniform(0, image.width), generator.uniform(0, image.height)
        heading, bend = generator.uniform(0, 2 * math.pi), generator.normal(0, 0.06)
        length = generator.uniform(4, 14) * SUPERSAMPLING
        for index in range(generator.integers(8, 26)):
            step_x, step_y = math.cos(heading) * length / 3, math.sin(heading) * length / 3
            draw.line((x, y, x + step_x, y + step_y), fill=(70, 50, 35), width=SUPERSAMPLING)
            x, y, heading = x + step_x, y + step_y, heading + bend
            shade = generator.uniform(0.5, 1.3)
            color = tuple(int(255 * min(shade * channel, 1)) for channel in base)
            leaf(draw, (x, y), heading + (0.8 if index % 2 else -0.8), length, color)


def leaf(
    draw: ImageDraw.ImageDraw,
    stem: tuple[float, float],
    heading: float,
    length: float,
    color: tuple[int, ...],
) -> None:
    along = np.linspace(0, 1, 7)
    beside = 0.22 * np.sin(np.pi * along**0.8)
    outline = np.concatenate([along + 1j * beside, (along - 1j * beside)[::-1]])
    points = outline * length * np.exp(1j * heading) + complex(*stem)
    draw.polygon([(float(point.real), float(point.imag)) for point in points], fill=color)


def grass(generator: Generator, image: Image.Image) -> None:
    """Many thin blades, or hair."""
    draw = ImageDraw.Draw(image)
    tint = generator.uniform(0.2, 1, 3)
    ground, spread = generator.uniform(0.5, 1.05) * image.height, generator.uniform(0.02, 0.2)
    lean, height = generator.normal(0, 0.4), generator.uniform(0.06, 0.25) * image.height
    for _ in range(generator.integers(150, 700)):
        x = generator.uniform(0, image.width)
        y = ground + generator.normal(0, spread) * image.height
        tip = x + (lean + generator.normal(0, 0.25)) * height
        color = tuple(int(v) for v in 255 * tint * generator.uniform(0.3, 1))
        middle = ((x * 2 + tip) / 3, y - 0.6 * height)
        points = [(x, y), middle, (tip, y - height * generator.uniform(0.6, 1))]
        draw.line(points, fill=color, width=int(generator.integers(1, SUPERSAMPLING + 2)))


def wires(generator: Generator, image: Image.Image) -> None:
    """Thin straight and round lines, and grids of them."""
    draw = ImageDraw.Draw(image)
    for _ in range(generator.integers(4, 14)):
        x, y = generator.uniform(0, image.width), generator.uniform(0, image.height)
        radius = generator.uniform(5, 70) * SUPERSAMPLING
        width, color = int(generator.integers(1, 3 * SUPERSAMPLING)), ink(generator)
        if generator.random() < 0.4:
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), None, color, width)
            continue
        angle, gap = generator.uniform(0, math.pi), generator.uniform(2, 9) * SUPERSAMPLING
        dx, dy = 3 * radius * math.cos(angle), 3 * radius * math.sin(angle)
        for index in range(generator.integers(1, 8)):
            shift_x, shift_y = -index * gap * math.sin(angle), index * gap * math.cos(angle)
            start = (x + shift_x, y + shift_y)
            draw.line((*start, start[0] + dx, start[1] + dy), fill=color, width=width)


def sign(generator: Generator, image: Image.Image) -> None:
    """A panel with lines of invented letters: a few strokes on a grid of 3×4 points each."""
    draw = ImageDraw.Draw(image)
    letter = generator.uniform(4, 14) * SUPERSAMPLING
    columns, rows = int(generator.integers(4, 16)), int(generator.integers(1, 6))
    x = generator.uniform(0, max(image.width - columns * letter, 1))
    y = generator.uniform(0, max(image.height - 1.6 * rows * letter, 1))
    panel, text = ((245, 240, 230), (25, 25, 30))[:: generator.choice([-1, 1])]
    if generator.random() < 0.4:
        panel, text = ink(generator), ink(generator)
    box = (x - letter / 2, y - letter / 2, x + columns * letter, y + 1.6 * rows * letter)
    draw.rectangle(box, fill=panel, outline=text, width=SUPERSAMPLING // 2)
    width = max(1, round(letter * generator.uniform(0.08, 0.2)))
    for row in range(rows):
        for column in range(columns):
            if generator.random() < 0.15:
                continue
            corner = np.array([x + column * letter, y + 1.6 * row * letter])
            for _ in range(generator.integers(2, 5)):
                ends = generator.integers(0, (3, 4), (2, 2)) * letter * [0.32, 0.33] + corner
                draw.line([tuple(end) for end in ends.tolist()], fill=text, width=width)


def polygons(generator: Generator, image: Image.Image) -> None:
    """Small flat triangles with sharp corners."""
    draw = ImageDraw.Draw(image)
    for _ in range(generator.integers(10, 50)):
        middle = generator.uniform(0, 1, 2) * image.size
        corners = middle + generator.normal(0, 7 * SUPERSAMPLING, (3, 2))
        draw.polygon([tuple(corner) for corner in corners.tolist()], fill=ink(generator))
