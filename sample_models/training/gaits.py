"""Walking and running cycles of a 16 joint skeleton, made by a few curves and leg kinematics.

A foot stands still on the ground from its strike to its lift-off, whatever the speed; hips and
knees follow from where the foot and the pelvis are. The share of the cycle that a foot stands
shrinks from walk to run, knees and elbows bend more, and the pelvis' bounce changes its sign: all
of it not linear in speed. Axes: x right, y up, z ahead; metres and seconds. Rotations are
quaternions (x, y, z, w) relative to the parent, w never negative.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

JOINTS = (
    *("pelvis", "spine", "chest", "head"),
    *("left_upper_arm", "left_forearm", "right_upper_arm", "right_forearm"),
    *("left_thigh", "left_shin", "left_foot", "left_toes"),
    *("right_thigh", "right_shin", "right_foot", "right_toes"),
)
LEFT_LEG, RIGHT_LEG = JOINTS.index("left_thigh"), JOINTS.index("right_thigh")
STYLES = 8
HIP_SIDE, THIGH, SHIN, ANKLE_HEIGHT = 0.09, 0.47, 0.45, 0.08
BALL = np.array([0.0, -ANKLE_HEIGHT, 0.12])  # of the foot, seen from the ankle


@dataclass(frozen=True)
class Gaits:
    """n poses of gaits: `style` n×8 within ±1, `speed` n in m/s, `phase` n from 0 to 1."""

    style: Array
    speed: Array
    phase: Array

    def running(self) -> Array:
        """0 for a walk, 1 for a run; the change lies about 2.4 m/s."""
        return 1 / (1 + np.exp(-2.5 * (self.speed - 2.4)))

    def cycles_per_second(self) -> Array:
        return (0.75 + 0.35 * self.speed**0.8) * (1 + 0.06 * self.style[:, 0])

    def stance(self) -> Array:
        """The share of its cycle that a foot is on the ground."""
        return 0.63 - (0.27 + 0.02 * self.style[:, 1]) * self.running()

    def travel(self) -> Array:
        """How far the pelvis moves ahead while a foot stands."""
        return self.speed * self.stance() / self.cycles_per_second()

    def pelvis_height(self) -> Array:
        """Of the pelvis above the ground, with its two bounces a cycle."""
        run = self.running()
        bounce = (0.018 - (0.055 + 0.012 * self.style[:, 2]) * run) * np.cos(
            4 * np.pi * (self.phase - self.stance() / 2)
        )
        # low enough for the leg to reach the ground at both ends of the stance
        leg = 0.895 - 0.045 * run + 0.01 * self.style[:, 3]
        hip = np.sqrt(leg**2 - (self.travel() / 2) ** 2)
        return np.asarray(ANKLE_HEIGHT + hip + bounce)

    def stands(self, side: int) -> NDArray[np.bool_]:
        """Whether the left (0) or right (1) foot is on the ground."""
        return (self.phase + 0.5 * side) % 1 < self.stance()


def turn(axis: int, angle: Array) -> Array:
    """Quaternions n×4 of turns about x (0), y (1) or z (2) by n angles in radians."""
    out = np.zeros((*np.shape(angle), 4))
    out[..., axis], out[..., 3] = np.sin(angle / 2), np.cos(angle / 2)
    return out


def product(*rotations: Array) -> Array:
    """Quaternions that apply the last one first."""
    result = rotations[0]
    for right in rotations[1:]:
        (x, y, z, w), (a, b, c, d) = np.moveaxis(result, -1, 0), np.moveaxis(right, -1, 0)
        result = np.stack(
            [
                w * a + x * d + y * c - z * b,
                w * b - x * c + y * d + z * a,
                w * c + x * b - y * a + z * d,
                w * d - x * a - y * b - z * c,
            ],
            axis=-1,
        )
    return result


def inverse(rotation: Array) -> Array:
    return np.asarray(rotation * np.array([-1, -1, -1, 1]))


def rotate(rotation: Array, vector: Array) -> Array:
    """Vectors n×3 (or one for all) turned by quaternions n×4."""
    axis, w = rotation[..., :3], rotation[..., 3:]
    across = 2 * np.cross(axis, np.broadcast_to(vector, axis.shape))
    return vector + w * across + np.cross(axis, across)


def ankle_path(gaits: Gaits, side: int) -> tuple[Array, Array]:
    """Where the ankle is, seen from the ground below the pelvis, and the pitch of the foot."""
    cycle = (gaits.phase + 0.5 * side) % 1
    run, stance, style = gaits.running(), gaits.stance(), gaits.style
    travel = gaits.travel()
    swing = np.clip((cycle - stance) / (1 - stance), 0, 1)
    # a cubic that leaves and meets the ground at the ground's speed
    slope = -travel * (1 - stance) / stance
    t2, t3 = swing**2, swing**3
    swung = travel * (3 * t2 - 2 * t3 - 0.5) + slope * (2 * t3 - 3 * t2 + swing)
    ahead = np.where(cycle < stance, travel * (0.5 - cycle / stance), swung)
    lift = 0.10 + (0.24 + 0.05 * style[:, 4]) * run
    up = lift * np.sin(np.pi * swing ** (1 - 0.35 * run)) ** 2
    beside = (HIP_SIDE - 0.045 * run + 0.01 * style[:, 5]) * (1 if side else -1)
    pitch = (0.5 + 0.7 * run) * np.sin(np.pi * swing) ** 2 * np.cos(np.pi * swing * 0.8)
    return np.stack([beside, ANKLE_HEIGHT + up, ahead], axis=-1), pitch


def leg(gaits: Gaits, pelvis: Array, side: int) -> list[Array]:
    """Thigh, shin, foot and toes that put the foot on its path."""
    ankle, pitch = ankle_path(gaits, side)
    hip = rotate(pelvis, np.array([HIP_SIDE if side else -HIP_SIDE, 0, 0]))
    hip[:, 1] += gaits.pelvis_height()
    x, y, z = rotate(inverse(pelvis), ankle - hip).T
    down = np.hypot(x, y)
    length = np.minimum(np.hypot(down, z), 0.999 * (THIGH + SHIN))
    knee = np.arccos((length**2 - THIGH**2 - SHIN**2) / (2 * THIGH * SHIN))
    lead = np.arctan2(SHIN * np.sin(knee), THIGH + SHIN * np.cos(knee))
    thigh = product(turn(2, np.arctan2(x, -y)), turn(0, np.arctan2(-z, down) - lead))
    shin = turn(0, knee)
    foot = product(inverse(product(pelvis, thigh, shin)), turn(0, pitch))
    return [thigh, shin, foot, turn(0, -0.4 * pitch)]


def poses(gaits: Gaits) -> Array:
    """The rotations n×16×4 of the joints."""
    run, style = gaits.running(), gaits.style
    wave, double = 2 * np.pi * gaits.phase, 4 * np.pi * gaits.phase
    twist = (0.08 + 0.10 * run + 0.03 * style[:, 5]) * np.cos(wave - 0.3 * run)
    sway = (0.05 - 0.02 * run + 0.02 * style[:, 3]) * np.sin(wave)
    lean = 0.03 + (0.16 + 0.05 * style[:, 6]) * run + 0.02 * np.cos(double)
    pelvis = product(turn(1, twist), turn(2, sway), turn(0, 0.4 * lean))
    spine = product(turn(1, -1.1 * twist), turn(2, -0.6 * sway), turn(0, 0.6 * lean))
    chest = product(turn(1, -0.9 * twist), turn(0, 0.05 * np.sin(double)))
    head = product(turn(1, 0.8 * twist), turn(0, -0.8 * lean))
    arms = []
    for side in (0, 1):
        opposite = np.cos(wave + np.pi * side)
        swing = (0.35 + 0.35 * run + 0.12 * style[:, 7]) * opposite + 0.1 * run
        out = (0.10 + 0.12 * run) * (1 if side else -1)
        elbow = 0.30 + (1.15 + 0.2 * style[:, 7]) * run + (0.15 + 0.15 * run) * -opposite
        arms += [product(turn(2, out), turn(0, swing)), turn(0, -elbow)]
    legs = [*leg(gaits, pelvis, 0), *leg(gaits, pelvis, 1)]
    result = np.stack([pelvis, spine, chest, head, *arms, *legs], axis=1)
    return np.where(result[..., 3:] < 0, -result, result)


def feet(pose: Array, pelvis_height: Array) -> Array:
    """Where the balls of both feet are, n×2×3, seen from the ground below the pelvis."""
    found = []
    for side, first in ((0, LEFT_LEG), (1, RIGHT_LEG)):
        thigh = product(pose[:, 0], pose[:, first])
        shin = product(thigh, pose[:, first + 1])
        foot = product(shin, pose[:, first + 2])
        place = rotate(pose[:, 0], np.array([HIP_SIDE if side else -HIP_SIDE, 0, 0]))
        place = place + rotate(thigh, np.array([0, -THIGH, 0]))
        place = place + rotate(shin, np.array([0, -SHIN, 0])) + rotate(foot, BALL)
        place[:, 1] += pelvis_height
        found.append(place)
    return np.stack(found, axis=1)
