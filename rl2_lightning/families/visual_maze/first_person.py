"""First-person views of mazes, by ray casting with one ray per column of a frame."""

import torch
from torch import Tensor

from rl2_lightning.families.visual_maze.motion import NUM_COLOURS, Pose, unit_vectors

HEIGHT, WIDTH = 30, 40
FOCAL_LENGTH = WIDTH / 2  # in pixels; the horizontal field of view is 90 degrees
WALL_HEIGHT = 0.6  # in cells; the eye is halfway up
PILLAR_RADIUS = 0.2  # of the pillar that marks the goal, in cells

# Colours of walls as red, green and blue; none is the goal's green.
WALL_COLOURS = (
    (200, 60, 50),
    (60, 90, 200),
    (220, 190, 60),
    (150, 70, 170),
    (230, 130, 40),
    (70, 180, 200),
    (230, 150, 180),
    (200, 200, 200),
)
GOAL_COLOUR = (0, 255, 0)
CEILING_COLOUR = (45, 50, 70)
FLOOR_COLOUR = (85, 75, 65)
SIDE_BRIGHTNESS = (1.0, 0.75)  # of walls that run north-south, and of those that run east-west
SEAM_WIDTH = 0.05  # of the dark edge at both ends of a wall, in cells
SEAM_BRIGHTNESS = 0.5
FOG = 0.15  # brightness is 1 / (1 + FOG x distance)

_PARALLEL = 1e-6


class FirstPersonView:
    """Renders the views of agents in mazes of N x N cells.

    A ray crosses at most N lines of the grid in each direction. All crossings of all rays are
    computed at once, and the nearest one with a wall is visible.

    Args:
        size: N, cells of a side.
        device: device of the mazes.
    """

    def __init__(self, size: int, device: torch.device) -> None:
        assert len(WALL_COLOURS) == NUM_COLOURS
        self._size = size
        ahead = unit_vectors(device)
        to_the_right = torch.stack([-ahead[:, 1], ahead[:, 0]], dim=-1)
        column = (torch.arange(WIDTH, device=device) + 0.5 - WIDTH / 2) / FOCAL_LENGTH
        rays = ahead.unsqueeze(-1) + to_the_right.unsqueeze(-1) * column
        # A ray parallel to a grid line crosses it only far away.
        self._rays = torch.where(rays.abs() < _PARALLEL, _PARALLEL, rays)
        self._lines = torch.arange(size, device=device, dtype=torch.float32).view(size, 1, 1)
        self._palette = torch.tensor(
            [(0, 0, 0), *WALL_COLOURS, GOAL_COLOUR], dtype=torch.float32, device=device
        )
        self._goal_index = NUM_COLOURS + 1
        self._side_brightness = torch.tensor(SIDE_BRIGHTNESS, device=device)
        row = torch.arange(HEIGHT, device=device) + 0.5 - HEIGHT / 2
        self._row_offset = row.abs().view(1, 2, HEIGHT // 2, 1)
        halves = torch.tensor([CEILING_COLOUR, FLOOR_COLOUR], dtype=torch.uint8, device=device)
        self._background = halves.T.contiguous().view(1, 3, 2, 1, 1)
        self._empty_frame = self._background.expand(1, 3, 2, HEIGHT // 2, WIDTH).contiguous()

    def frames(self, walls: Tensor, goal: Tensor, pose: Pose) -> Tensor:
        """The view from each pose.

        Args:
            walls: colours on the sides of the cells, `[B, 2, N + 1, N]`, uint8; 0 is open.
            goal: position of the pillar, `[B, 2]`, float32.
            pose: pose of the agents.

        Returns:
            `[B, 3, HEIGHT, WIDTH]`, uint8: red, green and blue; the first row is the top.
        """
        depth, index, brightness = self.cast(walls, goal, pose)
        colour = (self._palette[index] * brightness.unsqueeze(-1)).transpose(1, 2)
        half_height = (FOCAL_LENGTH * WALL_HEIGHT / 2) / depth
        is_seen = self._row_offset < half_height.view(-1, 1, 1, WIDTH)
        # A product and a sum modulo 256 are several times faster than `torch.where` on bytes.
        colour = colour.to(torch.uint8, memory_format=torch.contiguous_format)
        change = colour.view(-1, 3, 1, 1, WIDTH) - self._background
        frames = is_seen.view(torch.uint8).unsqueeze(1) * change
        return frames.add_(self._empty_frame).view(-1, 3, HEIGHT, WIDTH)

    def cast(self, walls: Tensor, goal: Tensor, pose: Pose) -> tuple[Tensor, Tensor, Tensor]:
        """The first hit of the ray of each column.

        Args:
            walls: as for `frames`.
            goal: as for `frames`.
            pose: pose of the agents.

        Returns:
            Its distance along the line of sight, in cells, `[B, WIDTH]`, float32; its colour,
            from 1, the goal's being the last, `[B, WIDTH]`, int64; and its brightness, float32.
        """
        rays = self._rays[pose.heading]
        to_wall, colour, brightness = self._nearest_wall(walls, pose.position, rays)
        to_goal = _nearest_pillar(goal - pose.position, rays)
        is_goal = to_goal < to_wall
        return (
            torch.where(is_goal, to_goal, to_wall),
            torch.where(is_goal, self._goal_index, colour),
            torch.where(is_goal, 1.0, brightness),
        )

    def _nearest_wall(
        self, walls: Tensor, position: Tensor, rays: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Distance, colour and brightness of the nearest wall on each ray, `[B, WIDTH]`."""
        size = self._size
        here = position.unsqueeze(-1)
        first = torch.where(rays > 0, here.floor() + 1, here.ceil() - 1)
        per_cell = rays.abs().reciprocal()
        # Crossings with the lines of x and those of y, by distance: [B, N, 2, WIDTH].
        depth = ((first - here).abs() * per_cell).unsqueeze(1) + self._lines * per_cell.unsqueeze(1)
        line = first.unsqueeze(1) + self._lines * rays.sign().unsqueeze(1)
        across = here.flip(1).unsqueeze(1) + depth * rays.flip(1).unsqueeze(1)
        # Beyond the maze the value does not matter: the outer wall is nearer.
        side = line.clamp_(0, size).mul_(size).add_(across.floor().clamp_(0, size - 1))
        side[:, :, 1] += (size + 1) * size
        colour = walls.flatten(1).gather(1, side.long().flatten(1)).view(-1, 2 * size, WIDTH)
        depth = depth.view(colour.shape).masked_fill(colour == 0, torch.inf)
        nearest_depth, nearest = depth.min(1, keepdim=True)
        along = across.view(colour.shape).gather(1, nearest).squeeze(1) % 1
        colour = colour.gather(1, nearest).squeeze(1).long()
        nearest_depth = nearest_depth.squeeze(1)
        brightness = self._side_brightness[nearest.squeeze(1) % 2] / (1 + FOG * nearest_depth)
        is_seam = (along - 0.5).abs() > 0.5 - SEAM_WIDTH
        brightness = torch.where(is_seam, SEAM_BRIGHTNESS * brightness, brightness)
        return nearest_depth, colour, brightness


def _nearest_pillar(offset: Tensor, rays: Tensor) -> Tensor:
    """The distance of a pillar at an offset `[B, 2]` along rays `[B, 2, WIDTH]`, or infinity."""
    squared = rays.square().sum(1)
    along = (rays * offset.unsqueeze(-1)).sum(1)
    beyond = offset.square().sum(1, keepdim=True) - PILLAR_RADIUS**2
    discriminant = along.square() - squared * beyond
    is_met = (discriminant > 0) & (along > 0)
    depth = (along - discriminant.clamp(min=0).sqrt()) / squared
    return torch.where(is_met, depth, torch.inf)
