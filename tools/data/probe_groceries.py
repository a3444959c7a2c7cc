"""The linear probe of chapter 10 on the whole set of groceries: ``probe_groceries.py FOLDER``.

FOLDER is ``dataset`` of github.com/marcusklasson/GroceryStoreDataset. Prints a table, coarse and fine classes by: all
test photographs, those of which no near-copy is in the training list, and a split that was shuffled. Takes minutes.
"""

import sys
from pathlib import Path

import torch

from helpers import datasets, embedding, models, transfer

LEFT_OUT = Path(__file__).parent / "groceries_left_out.csv"


def main(folder: str) -> None:
    classifier = models.load()
    parts = [datasets.groceries(split, root=folder) for split in ("train", "test")]
    train, test = (embedding.features(classifier, part) for part in parts)
    left_out = LEFT_OUT.read_text(encoding="utf-8")
    new = torch.tensor([name not in left_out for name in parts[1].names])
    order = torch.randperm(len(train) + len(test), generator=torch.Generator().manual_seed(0))
    everything, first = torch.cat([train, test]), len(train)
    print(f"classes | all {len(test):,} | the {int(new.sum()):,} without near-copies | shuffled")
    for level in ("coarse", "fine"):
        of_train, of_test = (datasets.groceries(split, level, root=folder).labels for split in ("train", "test"))
        labels = torch.cat([of_train, of_test])
        pairs = {
            "all": ((train, of_train), (test, of_test)),
            "new": ((train, of_train), (test[new], of_test[new])),
            "shuffled": tuple((everything[rows], labels[rows]) for rows in (order[:first], order[first:])),
        }
        print(f"{level} | " + " | ".join(f"{transfer.linear_probe(*pair):.3f}" for pair in pairs.values()))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
