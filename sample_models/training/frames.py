"""Rays through rooms: depth, normals and true ambient occlusion of a frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.rooms import MISSED, Array, Generator, Thing, room

RADIUS = 0.6  # occluders further away than this do not count
NO_SURFACE = 60.0  # depth in metres


@dataclass(frozen=True)
class Frame:
    """What a renderer hands to the network, and the `occlusion` that it should give; all c×h×w."""

    depth: Array
    normals: Array
    occlusion: Array
    focal_pixels: float


def frame(seed: int, height: int, width: int, rays: int) -> Frame:
    """The room of that seed through a random lens; occlusion from `rays`² directions a pixel."""
    generator = np.random.default_rng(seed)
    things = room(generator)
    focal = float(generator.uniform(100, 200))
    pitch, yaw = generator.uniform(-0.6, -0.05), generator.normal(0, 0.1)
    camera = np.array([0, generator.uniform(0.8, 2.2), 0], np.float32)
    right = np.array([np.cos(yaw), 0, np.sin(yaw)])
    ahead = np.array([np.sin(yaw) * np.cos(pitch), np.sin(pitch), -np.cos(yaw) * np.cos(pitch)])
    view = np.stack([right, np.cross(right, ahead), -ahead]).astype(np.float32)
    row, column = np.mgrid[0:height, 0:width]
    x, y = (column + 0.5 - width / 2) / focal, (height / 2 - row - 0.5) / focal
    # one metre along the view axis, so that the distance travelled is the depth
    directions = np.stack([x, y, -np.ones_like(x)], -1).reshape(-1, 3).astype(np.float32) @ view
    origins = np.broadcast_to(camera, directions.shape)
    depths = np.stack([thing.hit(origins, directions) for thing in things])
    nearest, depth = depths.argmin(0), depths.min(0)
    points = origins + directions * depth[:, None]
    normals = np.zeros_like(points)
    for index, thing in enumerate(things):
        seen = (nearest == index) & (depth < NO_SURFACE)
        normals[seen] = thing.normal(points[seen])
    occlusion = np.zeros(len(points), np.float32)
    surface = depth < NO_SURFACE
    occlusion[surface] = occlusion_at(generator, things, points[surface], normals[surface], rays)
    shape = (-1, height, width)
    return Frame(
        np.minimum(depth, np.float32(NO_SURFACE)).reshape(shape),
        np.moveaxis((normals @ view.T).reshape(height, width, 3), -1, 0),
        occlusion.reshape(shape),
        focal,
    )


def occlusion_at(
    generator: Generator, things: list[Thing], points: Array, normals: Array, rays: int
) -> Array:
    """Mean over a cosine weighted hemisphere of 1 at touching occluders, falling to 0 at RADIUS."""
    strata = np.stack(np.meshgrid(np.arange(rays), np.arange(rays)), -1).reshape(1, -1, 2)
    jittered = (strata + generator.random((len(points), rays * rays, 2), np.float32)) / rays
    up, around = 2 * jittered[..., 0] - 1, 2 * np.pi * jittered[..., 1]
    flat = np.sqrt(1 - up**2)
    sphere = np.stack([flat * np.cos(around), up, flat * np.sin(around)], -1).astype(np.float32)
    directions = sphere + normals[:, None] * np.float32(1.0001)
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    travel = np.full(directions.shape[:2], MISSED)
    for thing in things:
        near = np.flatnonzero(thing.distance(points) < RADIUS)
        starts = np.repeat(points[near] + normals[near] * np.float32(1e-3), rays * rays, axis=0)
        found = thing.hit(starts, directions[near].reshape(-1, 3))
        travel[near] = np.minimum(travel[near], found.reshape(len(near), rays * rays))
    return (1 - np.minimum(travel / RADIUS, 1) ** 2).mean(1).astype(np.float32)
