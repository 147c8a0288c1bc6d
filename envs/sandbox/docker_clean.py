"""Finds and removes what processes that are dead left in a Docker daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tenacity

from pivotgym.envs.sandbox.base import Cleaned
from pivotgym.envs.sandbox.docker_api import CACHE, LABEL, as_sandbox_error, is_missing, is_orphan, retried

if TYPE_CHECKING:
    from docker import APIClient

_CONFLICT = 409


def sweep(client: APIClient, *, caches: bool = False) -> Cleaned:
    """Removes containers and images whose owner is dead. What belongs to a living process, of this machine or of
    another one that shares the daemon, is left alone.

    Args:
        client: of the daemon.
        caches: remove images that were built to be used by later processes too. Every start sweeps without them: it
            may be the one to use them.

    Raises:
        SandboxError: the daemon fails.
    """
    done = Cleaned()
    unknown = 0
    marked = {"label": f"{LABEL}=1"}
    with as_sandbox_error("removing what dead runs left"):
        for found in listed(client.containers, all=True, filters=marked):
            labels = found.get("Labels") or {}
            if labels.get(CACHE) == "1":
                continue  # not made here: somebody runs such an image by hand, and its labels were taken over
            orphan = is_orphan(labels)
            unknown += orphan is None
            if orphan and _removed(client.remove_container, found["Id"], v=True, force=True):
                done.containers += 1
        left, kept = [], set()
        everything = listed(client.images, filters=marked, all=True)
        parents = {found["Id"]: found.get("ParentId") for found in everything}
        for found in everything:
            labels = found.get("Labels") or {}
            orphan = is_orphan(labels)
            unknown += orphan is None
            if labels.get(CACHE) == "1" and not (orphan and caches):
                above = found["Id"]
                while above is not None and above not in kept:  # what it is made from
                    kept.add(above)
                    above = parents.get(above)
            elif orphan:
                left.append(found)
        left = [found for found in left if found["Id"] not in kept]
        # An image can be removed once nothing is made from it: as many rounds as there are generations.
        while left:
            removed = [found for found in left if _removed(client.remove_image, found["Id"], force=True)]
            done.images += len(removed)
            if not removed:
                done.notes.append(f"{len(left)} images are in use by something else")
                break
            left = [found for found in left if found not in removed]
    if unknown:
        done.notes.append(f"{unknown} containers and images belong to another machine or container and were left alone")
    return done


def listed(function: Any, **options: Any) -> list[dict[str, Any]]:
    """A listing. The daemon fails to make one where something goes meanwhile, as when two processes start and sweep."""
    from docker.errors import APIError

    for attempt in tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(APIError),
        stop=tenacity.stop_after_attempt(6),
        wait=tenacity.wait_random_exponential(multiplier=0.1, max=2.0),
        reraise=True,
    ):
        with attempt:
            return list(function(**options))
    raise AssertionError("unreachable: tenacity re-raises")


def _removed(function: Any, name: str, **options: bool) -> bool:
    """Calls it; False where something still depends on the thing. Gone already is done as well."""
    from docker.errors import APIError

    try:
        retried(function, name, **options)
    except APIError as error:
        if is_missing(error) or "already in progress" in str(error.explanation):
            return True
        if getattr(error.response, "status_code", None) == _CONFLICT:
            return False
        raise
    return True
