"""Before a run goes on: its own network is one to import, and its data is there.

A stranger's record may name any module and any folder of this machine.
"""

from collections.abc import Sequence
from pathlib import Path

from hypergrad.config.checks import ConfigError
from hypergrad.config.schema import RunConfig
from hypergrad.data.catalogue import CATALOGUE
from hypergrad.data.torchvision_files import find_fault
from hypergrad.drivers.members import Member
from hypergrad.drivers.own_network import check_trusted
from hypergrad.runs.directory import RunDirectory
from hypergrad.runs.provenance import readable_sessions

__all__ = ["check_data_there", "check_members", "check_run"]


def check_run(run: RunDirectory, config: RunConfig, *, trust: bool) -> None:
    """Refuse a run whose network may not be imported, or whose data is not where it says.

    Args:
        run: The run.
        config: As recorded.
        trust: The user has said that its network may be imported.

    Raises:
        ConfigError: One line that names the file or folder, and the remedy.
    """
    check_trusted(run, config, readable_sessions(run), trust=trust)
    check_data_there(config)


def check_members(run: RunDirectory, members: Sequence[Member], *, trust: bool) -> None:
    """Refuse members as `check_run` does; what one of them began with here, the others may have.

    Raises:
        ConfigError: As of `check_run`.
    """
    places = [RunDirectory(run.path / member.name) for member in members]
    begun = [session for place in places for session in readable_sessions(place)]
    for place, member in zip(places, members, strict=True):
        check_trusted(run, member.config, begun, trust=trust)
        check_data_there(member.config)
        check_members(place, member.members, trust=trust)


def check_data_there(config: RunConfig) -> None:
    """Refuse a run whose data would have to be fetched to where its record says.

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
