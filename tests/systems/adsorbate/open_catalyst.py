"""Databases in the form of the Open Catalyst data: pickles of `Data` objects as torch_geometric of both major versions makes them, and of dictionaries."""

import pickle
import sys
import types

import numpy as np
import torch


class Data:
    """Stands for the class of torch_geometric: version 1 keeps its values as attributes."""

    def __init__(self, values):
        self.__dict__.update(values)


class GlobalStorage:
    """Stands for that in which version 2 keeps them, with a way back to its object."""

    def __init__(self, values, parent):
        self._mapping, self._parent = values, parent


class DataEdgeAttr:
    """A class that version 2 mentions."""


class DataTensorAttr:
    """Another."""


CLASSES = {"data": (Data, DataEdgeAttr, DataTensorAttr), "storage": (GlobalStorage,)}


def second(values):
    """A `Data` object of version 2."""
    made = Data({"_edge_attr_cls": DataEdgeAttr, "_tensor_attr_cls": DataTensorAttr})
    made._store = GlobalStorage(values, made)
    return made


FORMS = {"dictionary": dict, "version 1": Data, "version 2": second}


def install(monkeypatch):
    """Makes the classes those of a package of that name, while pickles are written."""
    for name, classes in CLASSES.items():
        module = types.ModuleType(f"torch_geometric.data.{name}")
        for item in classes:
            setattr(module, item.__name__, item)
            monkeypatch.setattr(item, "__module__", module.__name__)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    for name in ("torch_geometric", "torch_geometric.data"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))


def values_of(atoms, **more):
    """The values of one entry, with the types of the published data."""
    fixed = np.zeros(len(atoms))
    for constraint in atoms.constraints:
        fixed[constraint.index] = 1.0
    return {
        "pos": torch.tensor(atoms.positions).float(),
        "cell": torch.tensor(np.asarray(atoms.cell)).float()[None],
        "atomic_numbers": torch.tensor(atoms.numbers).float(),
        "natoms": len(atoms),
        "tags": torch.tensor(atoms.get_tags()),
        "fixed": torch.tensor(fixed).float(),
        **more,
    }


def write(path, entries, form="version 2", **others):
    """Writes a database; `others` are further keys."""
    import lmdb

    database = lmdb.open(str(path), map_size=2**28, subdir=False, meminit=False, map_async=True)
    with database.begin(write=True) as view:
        for number, values in enumerate(entries):
            content = values if isinstance(values, bytes) else pickle.dumps(FORMS[form](values), protocol=-1)
            view.put(str(number).encode("ascii"), content)
        view.put(b"length", pickle.dumps(len(entries)))
        for key, content in others.items():
            view.put(key.encode("ascii"), content)
    database.sync()
    database.close()
    return path
