"""Rooms of boxes and balls, and where rays meet them.

World space: x right, y up, metres, the floor at y = 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Generator = np.random.Generator

MISSED = np.float32(1e9)


@dataclass(frozen=True)
class Ball:
    center: Array
    radius: float

    def distance(self, points: Array) -> Array:
        """From n points to the surface, negative inside."""
        return np.linalg.norm(points - self.center, axis=-1) - self.radius

    def normal(self, points: Array) -> Array:
        return (points - self.center) / np.float32(self.radius)

    def hit(self, origins: Array, directions: Array) -> Array:
        """How many `directions` n rays go until they enter, MISSED where they do not."""
        offset = origins - self.center
        a, b = (directions * directions).sum(-1), (offset * directions).sum(-1)
        root = b**2 - a * ((offset * offset).sum(-1) - np.float32(self.radius) ** 2)
        travel = (-b - np.sqrt(np.maximum(root, 0))) / a
        return np.where((root > 0) & (travel > 0), travel, MISSED)


@dataclass(frozen=True)
class Box:
    """A box whose `axes` (rows, of unit length) need not be the world's."""

    center: Array
    half_size: Array
    axes: Array

    def distance(self, points: Array) -> Array:
        outside = np.abs((points - self.center) @ self.axes.T) - self.half_size
        return np.linalg.norm(np.maximum(outside, 0), axis=-1) + np.minimum(outside.max(-1), 0)

    def normal(self, points: Array) -> Array:
        local = (points - self.center) @ self.axes.T
        side = (np.abs(local) - self.half_size).argmax(-1)
        sign = np.sign(np.take_along_axis(local, side[:, None], 1))
        return self.axes[side] * sign

    def hit(self, origins: Array, directions: Array) -> Array:
        local = (origins - self.center) @ self.axes.T
        slope = directions @ self.axes.T
        slope = np.where(np.abs(slope) < 1e-7, np.float32(1e-7), slope)
        middle, reach = -local / slope, self.half_size / np.abs(slope)
        enter, leave = (middle - reach).max(-1), (middle + reach).min(-1)
        return np.where((enter < leave) & (enter > 0), enter, MISSED)


Thing = Ball | Box


def box(center: list[float], size: list[float], yaw: float = 0.0, roll: float = 0.0) -> Box:
    turn = np.array([[np.cos(yaw), 0, -np.sin(yaw)], [0, 1, 0], [np.sin(yaw), 0, np.cos(yaw)]])
    tilt = np.array([[np.cos(roll), np.sin(roll), 0], [-np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    half_size = np.array(size, np.float32) / 2
    return Box(np.array(center, np.float32), half_size, (tilt @ turn).astype(np.float32))


def room(generator: Generator) -> list[Thing]:
    """Floor, walls, furniture and clutter, all of it ahead of a camera near the origin."""
    back, side = generator.uniform(3.5, 8), generator.uniform(1.5, 4)
    walls: list[Thing] = [box([0, -0.5, 0], [60, 1, 60])]
    if generator.random() < 0.8:
        walls.append(box([0, 5, -back - 0.5], [30, 12, 1], generator.normal(0, 0.25)))
    if generator.random() < 0.5:
        walls.append(box([side * generator.choice([-1, 1]), 5, 0], [0.3, 12, 30]))
    things: list[Thing] = []
    for _ in range(generator.integers(3, 10)):
        place, size = spot(generator, side, back), generator.uniform(0.2, 1.3, 3)
        yaw = generator.uniform(0, np.pi)
        match generator.integers(5):
            case 0:
                things.append(
                    Ball(np.array([place[0], size[0] / 2, place[1]], np.float32), size[0] / 2)
                )
            case 1:
                things += stairs(generator, place, yaw)
            case 2:
                things += table(place, size, yaw)
            case _:
                things += tower(generator, place, size, yaw)
    for _ in range(generator.integers(4, 16)):
        x, z = spot(generator, side, back)
        size = generator.uniform(0.06, 0.35, 3)
        if generator.random() < 0.5:
            things.append(Ball(np.array([x, size[0] / 2, z], np.float32), size[0] / 2))
        else:
            turns = generator.uniform(0, np.pi, 2)
            things.append(box([x, size.mean() / 2, z], size.tolist(), *turns.tolist()))
    return walls + things


def spot(generator: Generator, side: float, back: float) -> tuple[float, float]:
    z = -generator.uniform(1.6, back)
    return float(generator.uniform(-0.5, 0.5) * min(-z * 1.1, 2 * side)), float(z)


def tower(generator: Generator, place: tuple[float, float], size: Array, yaw: float) -> list[Thing]:
    """Boxes upon each other, every one smaller, turned a little and out of the middle."""
    things: list[Thing] = []
    level = 0.0
    for _ in range(generator.integers(1, 4)):
        shift = generator.normal(0, 0.05, 2)
        center = [place[0] + shift[0], level + size[1] / 2, place[1] + shift[1]]
        things.append(box(center, size.tolist(), yaw))
        level += size[1]
        size, yaw = size * generator.uniform(0.4, 0.9), yaw + generator.normal(0, 0.3)
    return things


def stairs(generator: Generator, place: tuple[float, float], yaw: float) -> list[Thing]:
    run, rise = generator.uniform(0.12, 0.35, 2)
    wide = generator.uniform(0.5, 1.5)
    ahead = np.array([np.sin(yaw), np.cos(yaw)])
    things: list[Thing] = []
    for step in range(generator.integers(3, 7)):
        x, z = np.array(place) - ahead * run * step
        high = rise * (step + 1)
        things.append(box([x, high / 2, z], [wide, high, run], yaw))
    return things


def table(place: tuple[float, float], size: Array, yaw: float) -> list[Thing]:
    """A board on four legs: the dark place under it is what occlusion is about."""
    wide, high, deep = size + 0.2
    top = box([place[0], high, place[1]], [wide, 0.05, deep], yaw)
    legs: list[Thing] = []
    for x, z in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
        corner = np.array([0.45 * x * wide, 0, 0.45 * z * deep], np.float32) @ top.axes
        center = [place[0] + corner[0], high / 2, place[1] + corner[2]]
        legs.append(box(center, [0.05, high, 0.05], yaw))
    return [top, *legs]
