"""One run at a time on a data set: Prefect's concurrency limit `kmunet-DATASET`.

Runs on other data sets go on beside it. `prefect gcl update kmunet-busi --limit 2`
allows more. Without a server, the locks of flows/workspace.py are all there is.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from uuid import UUID

from prefect import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.client.schemas.objects import ConcurrencyLeaseHolder
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL

from flows.limits import NoTurnError

LEASE = 180.0  # seconds after which the slot of a run that died is free


def limit_name(dataset: str) -> str:
    """The name of a data set's limit."""
    return f"kmunet-{dataset}"


@contextmanager
def slot(
    dataset: str, log: Callable[[str], None], seconds: float | None = None
) -> Iterator[None]:
    """Hold the data set's slot; wait, and say so, while another run has it.

    NoTurnError after `seconds`.
    """
    if not PREFECT_API_URL.value():
        yield
        return
    name = limit_name(dataset)
    if _is_taken(name):
        log(f"waiting for the run on {dataset} (concurrency limit {name})")
    with ExitStack() as stack:
        try:
            stack.enter_context(
                concurrency(
                    name,
                    timeout_seconds=seconds,
                    lease_duration=LEASE,
                    holder=_holder(),
                    raise_on_lease_renewal_failure=False,
                )
            )
        except TimeoutError:
            raise NoTurnError(f"{dataset}: another run had it all the time") from None
        yield


def _holder() -> ConcurrencyLeaseHolder | None:
    """This flow run: infra/local/runs.py gives back what dead ones hold."""
    run = flow_run.get_id()
    return ConcurrencyLeaseHolder(type="flow_run", id=UUID(run)) if run else None


def _is_taken(name: str) -> bool:
    """Whether the limit, made where it is missing, has no slot left."""
    with get_client(sync_client=True) as client:
        try:
            found = client.read_global_concurrency_limit_by_name(name)
        except ObjectNotFound:
            with suppress(ObjectAlreadyExists):  # another run was quicker
                client.create_global_concurrency_limit(
                    GlobalConcurrencyLimitCreate(name=name, limit=1)
                )
            return False
    return bool(found.active_slots >= found.limit)
