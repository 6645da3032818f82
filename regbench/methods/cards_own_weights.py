"""The cards of networks whose weights their users have or get themselves: plain data that imports no engine."""

from __future__ import annotations

from regbench.methods.card import Card, Environment, Package
from regbench.methods.cards_classical import TORCH

UNIGRADICON = Package("unigradicon", "unigradicon")
# It asks for any torch, and pip would then exchange the one that is here for the newest with CUDA. Of what it needs,
# only what runs a registration is listed: the rest reads its training data.
_UNIGRADICON_ENVIRONMENT = Environment(
    "unigradicon",
    same_as_here=("torch", "numpy", "scipy"),
    requirements=(
        *("torchvision", "itk>=5.3", "footsteps>=0.1.6", "matplotlib", "tensorboard", "tqdm", "pyyaml", "blosc"),
        "girder_client>=3.1.8",
    ),
    alone=("icon_registration==1.1.9", "unigradicon==1.0.6"),
)
_YOURS = {
    "dataset": "whatever your weights were trained on",
    "subjects": "say which with `trained_on`, so that leaks are found",
    "families": {},
}
_SAME_BITS = "yes on the CPU, for a fixed number of threads"

OWN_WEIGHTS = (
    Card(
        name="voxelmorph",
        target="regbench.methods.voxelmorph_checkpoint:VoxelMorphCheckpoint",
        summary="a VoxelMorph network of your own, from a checkpoint of the official torch code",
        paradigm="learned",
        supervision="image",
        transformation="deformable",
        citation="Balakrishnan et al., IEEE Transactions on Medical Imaging 38 (2019) 1788-1800",
        licence="that of your weights",
        packages=(TORCH,),
        trained_on=_YOURS,
        weights="a checkpoint of yours",
        grids="any; read with the orientation and spacing that you say, every axis padded to what its levels ask for",
        notes="Reads the state dicts of voxelmorph 0.1, 0.2 and 0.3, and gives the displacements of these releases to "
        "1e-5 voxels, tried with random weights in 2-D and 3-D. Not read: the TensorFlow models (those of 2018 are "
        "voxelmorph-2018), networks with normalisation or other ways of upsampling. Free of folds only where its flow "
        "is integrated.",
        deterministic=_SAME_BITS,
    ),
    Card(
        name="transmorph",
        target="regbench.methods.transmorph:TransMorphCheckpoint",
        summary="a TransMorph network of your own, from a checkpoint of its authors' code",
        paradigm="learned",
        supervision="image",
        transformation="deformable",
        citation="Chen et al., TransMorph: transformer for unsupervised medical image registration, Medical Image "
        "Analysis 82 (2022) 102615",
        licence="that of your weights",
        dimensions=(3,),
        packages=(TORCH,),
        trained_on=_YOURS,
        weights="a checkpoint of yours",
        grids="any; read with the orientation and spacing that you say, on the shape that it was trained on",
        notes="Written from the published settings and names of weights: TransMorph, tiny, small and large, "
        "those without skip connections, learned positions. The weights of its authors could not be got, so none of "
        "their fields was compared; its blocks give what those of MONAI give, to 2e-6. Not read: the diffeomorphic, "
        "B-spline, Bayesian and sinusoidal variants.",
        deterministic=_SAME_BITS,
    ),
    Card(
        name="unigradicon",
        target="regbench.methods.unigradicon:UniGradIcon",
        summary="uniGradICON, one network for many organs and scans, through its package",
        paradigm="learned",
        supervision="image",
        transformation="deformable",
        citation="Tian et al., uniGradICON: a foundation model for medical image registration, MICCAI 2024",
        licence="MIT (package), Apache-2.0 (icon_registration); not stated for the weights",
        dimensions=(3,),
        packages=(UNIGRADICON, TORCH),
        environment=_UNIGRADICON_ENVIRONMENT,
        versioned_by="unigradicon",
        trained_on={
            "dataset": "COPDGene, OAI, HCP, Learn2Reg AbdomenCTCT",
            "subjects": "which of them is not stated",
            "families": dict.fromkeys(("copdgene", "oai", "hcp", "abdomenctct")),
        },
        weights="Step_2_final.trch, which you get from its authors",
        grids="any; the arrays of both images are brought to 175 voxels along every axis, whatever their orientation",
        notes="Its released weights have not been run: they could not be got. With random weights, its fields move "
        "images as the package 1.0.6 does itself, to 1e-6. Regular by training, not by construction.",
        deterministic=_SAME_BITS,
    ),
)
