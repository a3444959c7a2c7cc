"""Test photographs of groceries that show what a training photograph shows: ``same_place.py FOLDER > found.csv``.

FOLDER is as for make_groceries.py, which leaves the photographs in groceries_left_out.csv out. The authors split
their set by shop and product, so a shelf can be in both splits, behind another carton of the same coarse class. Looks
at every pair of a test and a training photograph of one coarse class, in a quarter of an hour or more: SIFT keypoints
(Lowe 2004) that match, and how many of them one affine map explains. For cartons, whose print is the same in every
shop, only the keypoints beside the middle count. Prints test photograph, training photograph and number of matches
where there are MATCHES or more.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from make_groceries import listed
from skimage.color import rgb2gray
from skimage.feature import SIFT
from skimage.measure import ransac
from skimage.transform import AffineTransform
from tqdm.auto import tqdm

from helpers import photos

MATCHES = 8
SIZE = 224  # pixels
KEYPOINTS = 400  # the coarsest
RATIO = 0.8  # of the distances to the nearest and to the second nearest descriptor
MIDDLE = 60, 164  # columns of pixels where a carton is
Points = tuple[np.ndarray, np.ndarray]


def keypoints(folder: Path, path: str) -> Points:
    """Positions (N, 2) and descriptors (N, 128), of length 1, of a photograph."""
    image = rgb2gray(photos.load_image(folder / path, SIZE).permute(1, 2, 0).numpy())
    detector = SIFT(upsampling=1, n_octaves=4)
    try:
        detector.detect_and_extract(image)
    except RuntimeError:  # there are none
        return np.zeros((0, 2)), np.zeros((0, 128))
    keep = np.argsort(-detector.sigmas, kind="stable")[:KEYPOINTS]
    places, descriptors = detector.keypoints[keep], detector.descriptors[keep].astype(np.float32)
    if "Packages" in path:
        beside = (places[:, 1] < MIDDLE[0]) | (places[:, 1] > MIDDLE[1])
        places, descriptors = places[beside], descriptors[beside]
    return places, np.sqrt(descriptors / descriptors.sum(1, keepdims=True))  # Arandjelović & Zisserman 2012


def matches(first: Points, second: Points) -> int:
    """How many pairs of keypoints one affine map explains, to within 4 pixels."""
    if min(len(first[0]), len(second[0])) < MATCHES:
        return 0
    similar = first[1] @ second[1].T
    nearest = similar.argmax(1)
    two = np.sqrt(np.maximum(2 - 2 * np.partition(similar, -2, axis=1)[:, -2:], 0))  # second nearest, nearest
    good = (two[:, 1] < RATIO * two[:, 0]) & (similar.argmax(0)[nearest] == np.arange(len(nearest)))
    if good.sum() < MATCHES:
        return 0
    pairs = first[0][good], second[0][nearest[good]]
    model, inliers = ransac(pairs, AffineTransform, min_samples=3, residual_threshold=4, max_trials=150, rng=0)
    if inliers is None or not model or not np.isfinite(model.params).all():
        return 0
    linear = model.params[:2, :2]
    possible = 0.1 < np.linalg.det(linear) < 10 and np.linalg.cond(linear) < 4  # no mirror, no line
    return int(inliers.sum()) if possible else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    folder = parser.parse_args().folder
    train, test = listed(folder, "train"), listed(folder, "test")
    points = {one.path: keypoints(folder, one.path) for one in tqdm(train + test, desc="keypoints")}
    for one in tqdm(test, desc="pairs"):
        others = [other.path for other in train if other.coarse == one.coarse]
        count, twin = max((matches(points[one.path], points[path]), path) for path in others)
        if count >= MATCHES:
            print(f"{one.path},{twin},{count}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
