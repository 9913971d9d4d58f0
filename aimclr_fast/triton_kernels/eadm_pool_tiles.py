"""How the Triton kernels of eadm_pool cut a map: one channel's frames in one thread's registers."""

from __future__ import annotations

from typing import NamedTuple

from triton import cdiv, next_power_of_2

MAX_PER_THREAD = 32  # values of a tile: a third of the registers, so that none is spilled
MAX_WARPS = 16
PROGRAMS = 512  # of a forward pass that keep a GPU busy
DROP_WARPS = 8
COUNTED = 1024  # joints of the batch that drop_kernel counts at a time
MAX_REGISTERS = 65536 // (32 * MAX_WARPS)  # of a thread, so that a program fits


class Tile(NamedTuple):
    """How a map is cut; see the parameters of the same names in eadm_pool.py."""

    one_tile: bool
    block_c: int
    block_o: int
    block_v: int
    warps: int

    def per_thread(self) -> int:
        return self.block_c * self.block_o * 8 * self.block_v // (32 * self.warps)


def _whole(sizes: tuple[int, int, int]) -> Tile:
    """All of a map of C, T, V."""
    channels, frames, joints = sizes
    octets = next_power_of_2((frames + 7) // 8)
    return Tile(True, next_power_of_2(channels), octets, next_power_of_2(joints), 1)


def _part(whole: Tile, block_c: int, block_o: int, warps: int, limit: int) -> Tile:
    """The part of a map of these sizes, made smaller until `limit` values a thread suffice."""
    block_c, block_o = min(block_c, whole.block_c), min(block_o, whole.block_o)
    tile = Tile(block_o == whole.block_o, block_c, block_o, whole.block_v, warps)
    while tile.per_thread() > limit and tile.block_o > 1:
        tile = tile._replace(one_tile=False, block_o=tile.block_o // 2)
    while tile.per_thread() > limit and tile.block_c > 1:
        tile = tile._replace(block_c=tile.block_c // 2)
    while tile.per_thread() > limit and tile.warps < MAX_WARPS:
        tile = tile._replace(warps=tile.warps * 2)
    return tile


def forward_tile(sizes: tuple[int, int, int], channels_last: bool) -> Tile:
    """The forward pass's tile of a map of C, T, V: all frames, if they fit in registers.

    A warp reads the joints of one channel or, channels-last, neighboring channels of few joints:
    fewer than eight of those would be less than what memory delivers at once.
    """
    block_c, fewest_c, warps = (16, 8, 8) if channels_last else (4, 1, 4)
    whole = _whole(sizes)
    tile = whole._replace(block_c=min(block_c, whole.block_c), warps=warps)
    while tile.per_thread() > MAX_PER_THREAD and tile.block_c > fewest_c:
        tile = tile._replace(block_c=tile.block_c // 2)
    while tile.per_thread() > MAX_PER_THREAD and tile.warps < MAX_WARPS:
        tile = tile._replace(warps=tile.warps * 2)
    if tile.per_thread() <= MAX_PER_THREAD:
        return tile
    # What is summed from tile to tile takes registers, too.
    return _part(whole, block_c, whole.block_o, warps, MAX_PER_THREAD // 2)


def programs_of(batch: int, joints: int) -> int:
    """How many programs share the channels of a sample in the forward pass, at most.

    Each of drop_kernel's reads what all of them have summed, so no more than needed; powers of two,
    so that other batches seldom are other kernels; and no more than joints, beside which it counts.
    """
    wanted: int = next_power_of_2(cdiv(PROGRAMS, batch))
    return min(max(2, wanted), 16, joints)


def drop_channels(channels: int, block_v: int, channels_last: bool) -> int:
    """Channels that drop_kernel sums at a time; channels-last, a thread has all joints of one."""
    fit = MAX_PER_THREAD * 32 * DROP_WARPS // block_v
    wanted: int = min(256 if channels_last else 32, next_power_of_2(channels))
    return max(1, min(wanted, fit))


def backward_tile(sizes: tuple[int, int, int], channels_last: bool) -> Tile:
    """The backward pass's tile: a few octets of frames, since it writes each value on its own."""
    block_c, block_o, warps = (32, 1, 8) if channels_last else (4, 2, 4)
    return _part(_whole(sizes), block_c, block_o, warps, MAX_PER_THREAD)
