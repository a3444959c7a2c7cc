"""Look inside convolutional networks: the code of "Visualizing and Understanding CNNs".

One module for each chapter, and a few that all of them share. Images are float tensors in [0, 1], shape (3, H, W)
or (N, 3, H, W); a network is any ``torch.nn.Module`` from (N, 3, H, W) to (N, classes); explanations are tensors.
"""

__version__ = "0.1.0"

# The modules of chapters 1 to 10; `demos` and `checks` have one module of each of these names, too.
CHAPTERS = ("shortcut", "filters", "activations", "deconvnet", "occlusion")
CHAPTERS += ("saliency", "cam", "guided", "embedding", "transfer")
