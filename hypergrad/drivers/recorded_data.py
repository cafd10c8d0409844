"""The data root that a run directory names: read from, and nothing is made or fetched there."""

from pathlib import Path

from hypergrad.config.checks import ConfigError
from hypergrad.config.schema import RunConfig
from hypergrad.data.catalogue import CATALOGUE
from hypergrad.data.torchvision_files import find_fault

__all__ = ["check_data_there"]


def check_data_there(config: RunConfig) -> None:
    """Refuse to go on with a run whose data would have to be fetched to where its record says.

    A stranger's record may say any folder of this machine.

    Args:
        config: As recorded.

    Raises:
        ConfigError: One line that names the folder, and the command that fetches the data.
    """
    name, root = config.data.name, config.data.root
    if root is None or name == "digits" or name not in CATALOGUE:
        return
    folder = Path(root).expanduser()
    if find_fault(name, folder, checksums=True) is not None:
        raise ConfigError(
            f"{name} is not whole in {folder}, which the run names: "
            f"`hypergrad data download {name} --root {folder}`, if that is your folder"
        )
