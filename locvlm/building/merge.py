"""The shards of one build put together: the file, and the manifest, of a build that was not sharded."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from locvlm.building.journal import differing
from locvlm.building.manifest import (
    Made,
    Manifest,
    RecordCounts,
    read_manifest,
    write_manifest,
)
from locvlm.building.segmenting.coco_file import join_coco_files
from locvlm.io import Ledger, atomic_writer, read_records, sha256_of
from locvlm.shard import Shard

_EXAMPLES = 3  # of a ledger's reason, as many as a build keeps


def merge_shards(out: str | Path, parts: Sequence[Path], *, overwrite: bool = False) -> dict[str, Any]:
    """Write what all shards hold, in their order, to `out`, with the manifest that fits it; gives its counts.

    Args:
        parts: the files of all shards, in any order: records, other JSON Lines, or COCO instances.

    Raises:
        ValueError: if `out` exists and `overwrite` is not set, a part has no manifest or was changed since,
            shards are missing or there twice, or were not built by the same arguments from the same inputs.
    """
    out = Path(out)
    if out.exists() and not overwrite:
        raise ValueError(f"{out} exists; give another --out, or --overwrite to replace it")
    manifests = {path: read_manifest(path) for path in parts}
    ordered = _in_order(manifests)
    _require_alike(manifests)
    for path in ordered:
        if sha256_of(path) != manifests[path].sha256:
            raise ValueError(f"{path} was changed after it was built; build this shard again")
    partial = out.with_name(f".{out.name}.partial")
    try:
        (join_coco_files if ordered[0].suffix == ".json" else _join_lines)(partial, ordered)
        are_records = "queries" in manifests[ordered[0]].counts
        tally = _count_records(ordered) if are_records else {}
        merged = _merged([manifests[path] for path in ordered], sha256_of(partial), tally)
        write_manifest(out, merged)
        os.replace(partial, out)
    finally:
        partial.unlink(missing_ok=True)
    return merged.counts


def _join_lines(out: Path, parts: Sequence[Path]) -> None:
    with atomic_writer(out, binary=True) as file:
        for path in parts:
            with open(path, "rb") as part:
                file.writelines(part)


def _count_records(parts: Sequence[Path]) -> dict[str, Any]:
    tally = RecordCounts()
    for path in parts:
        for record in read_records(path):
            tally.add(record)
    return tally.to_dict()


def _in_order(manifests: Mapping[Path, Manifest]) -> list[Path]:
    """The parts by their index; all of them, each once."""
    if not manifests:
        raise ValueError("there is nothing to merge; name the files of all shards")
    by_index: dict[int, Path] = {}
    count = 0
    for path, manifest in manifests.items():
        shard = Shard.parse(manifest.made.arguments.get("shard", "0/1"))
        count = count or shard.count
        if shard.count != count:
            raise ValueError(f"{path} is shard {shard}, others are of {count}; all have to be of one build")
        if shard.index in by_index:
            raise ValueError(f"{path} and {by_index[shard.index]} are both shard {shard}")
        by_index[shard.index] = path
    missing = sorted(set(range(count)) - by_index.keys())
    if missing:
        raise ValueError(
            f"{len(missing)} of {count} shards are missing, the first is {missing[0]}/{count}; build it, "
            f"and name all of them"
        )
    return [by_index[index] for index in range(count)]


def _require_alike(manifests: Mapping[Path, Manifest]) -> None:
    """Raise unless all parts were built by the same arguments from the same inputs."""
    first, *others = manifests
    for path in others:
        one, other = manifests[first], manifests[path]
        changed = differing(_whole(other.made).key(), _whole(one.made).key()) or differing(
            {"facts": other.facts, "input": other.input_ledgers},
            {"facts": one.facts, "input": one.input_ledgers},
        )
        if changed:
            raise ValueError(f"{path} and {first} are not of one build ({changed}); build them alike")


def _whole(made: Made) -> Made:
    """The same without its shard."""
    return Made(arguments={**made.arguments, "shard": str(Shard(0, 1))}, inputs=made.inputs)


def _merged(parts: Sequence[Manifest], sha256: str, tally: Mapping[str, Any]) -> Manifest:
    counts: dict[str, Any] = {}
    for part in parts:
        counts = _sum(counts, part.counts)
    ledgers: dict[str, dict[str, Any]] = {}
    for part in parts:
        for ledger in part.ledgers:
            ledgers[ledger["name"]] = _sum_ledgers(ledgers.get(ledger["name"]), ledger)
    return Manifest(
        sha256=sha256,
        made=_whole(parts[0].made),
        ledgers=list(ledgers.values()),
        input_ledgers=parts[0].input_ledgers,
        counts={**tally, **{name: n for name, n in counts.items() if name not in tally}},
        facts=parts[0].facts,
    )


def _sum(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers added by name, in dicts of any depth."""
    total = dict(one)
    for name, value in other.items():
        if isinstance(value, Mapping):
            total[name] = _sum(total.get(name, {}), value)
        else:
            total[name] = total.get(name, 0) + value
    return total


def _sum_ledgers(one: Mapping[str, Any] | None, other: Mapping[str, Any]) -> dict[str, Any]:
    """Two ledgers as `Ledger.to_dict` gives them, as one."""
    total = Ledger(other["name"])
    for ledger in (one, other):
        for reason, entry in ({} if ledger is None else ledger["reasons"]).items():
            total.dropped[reason] += entry["count"]
            examples = total.examples.setdefault(reason, [])
            examples += entry["examples"][: _EXAMPLES - len(examples)]
        total.num_kept += 0 if ledger is None else ledger["kept"]
    return total.to_dict()
