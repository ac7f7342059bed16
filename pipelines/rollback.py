"""Put the champion before the present one back: `python -m pipelines.rollback`."""

from kmunet.config import Params
from kmunet.errors import ServiceError
from pipelines.evidence import registered_name
from pipelines.paths import Paths
from pipelines.promotion import REPLACED
from pipelines.stage import stage_main
from pipelines.tracking import CHAMPION, Registry


def run(params: Params, paths: Paths) -> None:
    """Move the alias `champion` to the version that the present one replaced."""
    registry = Registry(paths.root, registered_name(params, paths.dataset))
    champion = registry.alias(CHAMPION)
    if champion is None:
        raise ServiceError(f"{registry.name} has no champion to roll back")
    if REPLACED not in champion.tags:
        raise ServiceError(
            f"{registry.name}: version {champion.version} is champion by hand and not "
            "by the gate, so what was before it is not recorded: set the alias "
            "'champion' in MLflow by hand again"
        )
    previous = champion.tags[REPLACED]
    if not previous:
        raise ServiceError(
            f"{registry.name}: version {champion.version} is the first champion; "
            "there is none before it"
        )
    registry.set_alias(CHAMPION, previous)
    registry.tag(champion.version, "rolled_back_to", previous)
    print(
        f"{registry.name}: champion is version {previous} again "
        f"(version {champion.version} keeps its record)"
    )


if __name__ == "__main__":
    raise SystemExit(stage_main("rollback", run))
