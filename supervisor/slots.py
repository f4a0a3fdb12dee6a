"""Worker slots: who runs when ``max_workers`` caps the tree. Pure.

A slot is held from start to end, through backoff; the slots of a group are one `Pool` while the group starts.
"""

from __future__ import annotations

import heapq

from .events import AgentQueued
from .pending import Pool, Ticket
from .states import QUEUED
from .tree import AgentNode, Node
from .world import World


def release(world: World, node: Node) -> None:
    """Give back the slot that `node` holds, or the share it has in its group's pool."""
    if not isinstance(node, AgentNode):
        return
    if node.has_slot:
        node.has_slot = False
        world.free_slots += 1
    leave_pool(world, node)
    node.ticket = None


def make_pool(world: World, members: list[Node]) -> None:
    """Put the slots of a group that starts into one pool."""
    if world.settings.max_workers is None:
        return
    agents = [node for node in members if isinstance(node, AgentNode)]
    pool = Pool(sum(node.has_slot for node in agents), frozenset(members), set(agents))
    for node in agents:
        leave_pool(world, node)
        node.has_slot = False
        node.pool = pool


def leave_pool(world: World, node: AgentNode) -> None:
    """End the part of `node` in a group start; slots that nobody in the pool can use become free."""
    pool, node.pool = node.pool, None
    if pool is None:
        return
    pool.pending.discard(node)
    excess = pool.slots - len(pool.pending)
    if excess > 0:
        pool.slots -= excess
        world.free_slots += excess


def take_reserved(world: World, node: AgentNode) -> bool:
    """Take a slot from the node's pool, or use the one it holds; False if there is none."""
    pool = node.pool
    if pool is not None:
        if not node.has_slot and pool.slots:
            pool.slots -= 1
            node.has_slot = True
        leave_pool(world, node)
    if world.settings.max_workers is None:
        # Nothing caps the tree: nobody ever queues.
        node.has_slot = True
    return node.has_slot


def keep_reserved(world: World, node: Node) -> None:
    """Take `node` out of the queue and of its pool, with the slot that the pool has for it."""
    if isinstance(node, AgentNode):
        take_reserved(world, node)
        node.ticket = None


def enqueue(world: World, node: AgentNode) -> None:
    """Have `node`, which is due, wait for a free slot."""
    world.tickets += 1
    if len(world.queue) > 2 * len(world.nodes):
        # Each node holds one ticket at most, so most of these are void.
        world.queue = [ticket for ticket in world.queue if ticket.node.ticket is ticket]
        heapq.heapify(world.queue)
    node.ticket = Ticket(node.key, world.tickets, node)
    heapq.heappush(world.queue, node.ticket)
    if node.state is not QUEUED:
        world.set_state(node, QUEUED)
        world.unannounced.append(node)


def grant(world: World) -> tuple[AgentNode, bool] | None:
    """Give a free slot to the next in the queue; returns it, and whether ``choose_next`` picked it."""
    while world.queue and world.queue[0].node.ticket is not world.queue[0]:
        heapq.heappop(world.queue)
    if not world.queue or world.free_slots < 1:
        return None
    chosen = _choose(world)
    node = chosen or heapq.heappop(world.queue).node
    node.ticket = None
    world.free_slots -= 1
    node.has_slot = True
    return node, chosen is not None


def announce(world: World) -> None:
    """Say of those that are left in the queue that they wait for a slot."""
    left, world.unannounced = world.unannounced, []
    for node in left:
        if node.state is QUEUED:
            world.emit(node, AgentQueued, world.settings.max_workers or 0)


def _choose(world: World) -> AgentNode | None:
    choose_next = world.settings.choose_next
    if choose_next is None or world.settings.max_workers is None:
        return None
    queued = {ticket.node.path: ticket.node for ticket in sorted(world.queue) if ticket.node.ticket is ticket}
    return queued.get(choose_next(tuple(queued)) or "") if len(queued) > 1 else None
