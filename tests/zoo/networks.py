"""All networks of the zoo, by name."""

from zoo import (
    attention,
    in_place,
    normalisation,
    own_gradients,
    parameters,
    parametrised,
    random_draws,
    recomputing,
    recurrent,
    state,
    wrappers,
)
from zoo.network import Network

KINDS: dict[str, tuple[Network, ...]] = {
    "Normalisation": normalisation.NETWORKS,
    "Attention": attention.NETWORKS,
    "Recurrent networks": recurrent.NETWORKS,
    "Parameters and losses": parameters.NETWORKS,
    "In-place operations": in_place.NETWORKS,
    "Recomputation and hooks": recomputing.NETWORKS,
    "Weights made of weights": parametrised.NETWORKS,
    "Random numbers": random_draws.NETWORKS,
    "State": state.NETWORKS,
    "Gradients of one's own": own_gradients.NETWORKS,
    "Wrappers and types": wrappers.NETWORKS,
}

ALL = {network.name: network for networks in KINDS.values() for network in networks}
assert len(ALL) == sum(map(len, KINDS.values())), "two networks have one name"
