"""The names of backbones that match a pattern, without loading a library, so that a shell can complete them."""

import fnmatch

from thaw.network.backbone_list import read_backbone_list


def match_names(pattern: str) -> list[str]:
    """The names that match, sorted: `resnet*` by wildcards, `resnet` anywhere in the name.

    timm's names with a tag, such as `resnet50d.ra2_in1k`, are left out unless the pattern has a dot too.
    """
    pattern = pattern.lower()
    wildcards = pattern if set(pattern) & set("*?[") else f"*{pattern}*"
    names = [name for name in sorted(read_backbone_list()) if "." in pattern or "." not in name]
    return fnmatch.filter(names, wildcards)
