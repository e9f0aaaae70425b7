"""The tensors of a network by their names and shapes, and whether those of a file are the same: without torch."""

from collections.abc import Collection, Mapping

from thaw.utils.words import count

Shapes = Mapping[str, tuple[int, ...]]
"""Names of tensors with their shapes."""


def explain_misfit(found: Shapes, needed: Shapes, *, network: str, known: Collection[str]) -> str:
    """Why the tensors that were found are not those of a network, to follow the name of their file; empty if they are.

    Args:
        found: their names and shapes.
        needed: what the network needs.
        network: its name.
        known: the names of more tensors of the network, which may be there or not.
    """
    missing = [name for name in needed if name not in found]
    if len(missing) > len(needed) / 2:
        return (
            f"has the tensors of another network than {network}: {len(needed) - len(missing)} of {len(needed)} names "
            f"match ({network} has {missing[0]}, the file {next(iter(found), 'nothing')})"
        )
    reshaped = [name for name, shape in needed.items() if name in found and found[name] != shape]
    if reshaped:
        name = reshaped[0]
        return (
            f"does not fit {network}: {count(len(reshaped), 'tensor')} of another shape, the first is {name}, "
            f"{found[name]} where {needed[name]} is needed"
        )
    if missing:
        return f"does not fit {network}: {len(missing)} of {len(needed)} tensors missing ({_list(missing)})"
    unexpected = [name for name in found if name not in needed and name not in known]
    if unexpected:
        return f"does not fit {network}: {count(len(unexpected), 'tensor')} too many ({_list(unexpected)})"
    return ""


def _list(names: list[str]) -> str:
    return f"{', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"
