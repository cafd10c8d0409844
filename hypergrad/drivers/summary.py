"""What `summary.json` says that a run or a multi-run was configured with."""

from hypergrad.config.fingerprint import digest
from hypergrad.config.schema import RunConfig

__all__ = ["multirun_settings", "run_settings"]


def run_settings(config: RunConfig) -> dict[str, object]:
    """Return what the figures and tables say about a run.

    Args:
        config: The run's configuration.
    """
    common: dict[str, object] = {
        "data": config.data.name,
        "model": config.model.name,
        "scale": config.scale,
    }
    if config.driver == "hypervariance":
        study = config.hypervariance
        return common | {
            "precision": config.precision,
            "batch_size": config.method.batch_size,
            "clip_gradient": config.method.clip_gradient,
            "steps": study.steps,
            "windows": study.windows,
            "learning_rate": study.learning_rate,
            "momentum": study.momentum,
            "weight_decay": study.weight_decay,
            "repeats": config.repeats,
            "perturbation_size": study.size,
            "validation_batches": study.validation_batches,
        }
    common |= {
        "search": config.search.kind,
        "table_column": config.table_column,
        "budget": config.budget,
        "repeats": config.repeats,
        "setup": digest(config),
        "epochs": config.epochs,
    }
    if config.driver == "search":
        return common | {
            "schedule": config.baseline.schedule,
            "milestones": " ".join(f"{milestone:g}" for milestone in config.baseline.milestones),
        }
    if config.driver == "improve":
        return common | {"direction": config.improve.direction}
    return common | {"method": config.method.name, "outer_steps": config.outer.steps}


def multirun_settings(config: RunConfig) -> dict[str, object]:
    """Return what the figures and tables say about a run made of runs.

    Args:
        config: The configuration of the whole.
    """
    if config.driver == "table":
        return {
            "scale": config.scale,
            "rows": " ".join(config.table.rows),
            "columns": " ".join(config.table.columns),
            "seeds": " ".join(map(str, config.seeds)),
            "budget": config.budget,
            "budgets": config.table.budgets,
        }
    return {
        "model": config.model.name,
        "scale": config.scale,
        "epochs": config.epochs,
        "outer_steps": config.outer.steps,
    }
