"""The names of the released checkpoint's tensors, and ours."""

import re
from collections.abc import Iterable

IGNORED = frozenset({"step_emb.dummy"})
"""Empty tensors of the release that say nothing."""

_OUTER = {
    "x1d_proj.0.weight": "embed_single.0.weight",
    "x1d_proj.0.bias": "embed_single.0.bias",
    "x1d_proj.1.weight": "embed_single.1.weight",
    "x2d_proj.0.weight": "embed_pair.0.weight",
    "x2d_proj.0.bias": "embed_pair.0.bias",
    "x2d_proj.1.weight": "embed_pair.1.weight",
    "rp_proj.relative_attention_bias.weight": "separation.weight",
    **{
        f"st_module.diff_head.{theirs}.{place}.{kind}": f"{ours}.{place}.{kind}"
        for theirs, ours in (("fc_t", "trans_head"), ("fc_eps", "rot_head"))
        for place in (0, 1, 3)
        for kind in ("weight", "bias")
    },
}

_LAYER = {
    "norm1.weight": "attention_norm.weight",
    "norm1.bias": "attention_norm.bias",
    "attn.trained_point_weight": "attention.point_weight",
    "attn.scalar_query.weight": "attention.query.weight",
    "attn.scalar_key.weight": "attention.key.weight",
    "attn.scalar_value.weight": "attention.value.weight",
    "attn.point_query.weight": "attention.query_points.weight",
    "attn.point_key.weight": "attention.key_points.weight",
    "attn.point_value.weight": "attention.value_points.weight",
    "attn.pair_bias.weight": "attention.pair_bias.weight",
    "attn.pair_value.weight": "attention.pair_value.weight",
    "attn.fc_out.weight": "attention.out.weight",
    "attn.fc_out.bias": "attention.out.bias",
    "norm2.weight": "feed_forward.0.weight",
    "norm2.bias": "feed_forward.0.bias",
    "ffn.ff.0.weight": "feed_forward.1.weight",
    "ffn.ff.0.bias": "feed_forward.1.bias",
    "ffn.ff.3.weight": "feed_forward.3.weight",
    "ffn.ff.3.bias": "feed_forward.3.bias",
}

_PREFIX = re.compile(r"st_module\.encoder\.layers\.(\d+)\.(.+)")


def layers_in(names: Iterable[str]) -> int:
    """Returns the number of layers among the release's names."""
    found = [match for name in names if (match := _PREFIX.fullmatch(name))]
    return 1 + max((int(match[1]) for match in found), default=-1)


def our_names(layers: int) -> dict[str, str]:
    """Returns our name of each tensor of the release, for a network of so many layers."""
    inner = {
        f"st_module.encoder.layers.{k}.{theirs}": f"layers.{k}.{ours}" for k in range(layers) for theirs, ours in _LAYER.items()
    }
    return {**_OUTER, **inner}
