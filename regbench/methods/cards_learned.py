"""The cards of the learned methods: plain data that imports no engine."""

from __future__ import annotations

from regbench.methods.card import Card, Package
from regbench.methods.cards_classical import TORCH
from regbench.methods.cards_own_weights import OWN_WEIGHTS
from regbench.methods.weights_table import WEIGHTS

H5PY = Package("h5py", "h5py")
SAFETENSORS = Package("safetensors", "safetensors")
_VOXELMORPH = "Balakrishnan et al., IEEE Transactions on Medical Imaging 38 (2019) 1788-1800"
_COHORT = {"dataset": "mni-cohort", "subjects": "train-000 ... train-255"}
_ALL_OASIS = {"dataset": "neurite-oasis", "subjects": "OASIS_OAS1_0001_MR1 ... OASIS_OAS1_0457_MR1"}
# The first 255 of the 414 subjects in the order of their names.
_FIRST_OASIS = {"dataset": "neurite-oasis", "subjects": "OASIS_OAS1_0001_MR1 ... OASIS_OAS1_0283_MR1"}
# The authors name OASIS-1 and no subjects, so any of them may be among these.
_SOME_OASIS = {
    **_ALL_OASIS,
    "note": "OASIS-1; which of its subjects is not stated",
    "families": {"neurite-oasis": None},
}
# The authors' list of training subjects; 0221 to 0233 chose the checkpoint.
_LISTED_OASIS = {"dataset": "neurite-oasis", "subjects": "OASIS_OAS1_0001_MR1 ... OASIS_OAS1_0220_MR1"}
_IXI = {
    "dataset": "IXI, as prepared for TransMorph",
    "subjects": "the 403 of its folder Train",
    "families": {"ixi": {"split": "train"}},
}
_BEFORE_2018 = {
    "dataset": "ADNI, OASIS, ABIDE, ADHD200, MCIC, PPMI, HABS and Harvard GSP",
    "subjects": "7329 scans, which of them is not stated",
    "families": dict.fromkeys(("neurite-oasis", "adni", "abide", "adhd200", "mcic", "ppmi", "habs", "gsp")),
}
_ABDOMEN = {
    "dataset": "Learn2Reg AbdomenCTCT",
    "subjects": "0002 0003 0005 0006 0008 0009 0021 0022 0024 0025 0027 0028 0030 0031 0033 0034 0036 0037 0039 0040",
    "families": {
        "abdomenctct": "2 3 5 6 8 9 21 22 24 25 27 28 30 31 33 34 36 37 39 40",
    },
}
_LUNGS = {
    "dataset": "DIR-Lab COPD (10 cases), Learn2Reg LungCT",
    "subjects": "all of COPD, the 12 of Train",
    "families": {"dirlab-copd": "1 ... 10", "lungct": {"split": "train"}},
}
# No family of scans either.
_NOTHING = {"dataset": "none (made-up shapes)", "families": {}}
_SAME_BITS = "yes on the CPU, for a fixed number of threads"

LEARNED = (
    Card(
        name="voxelmorph-cohort",
        target="regbench.methods.trained:VoxelMorph",
        summary="small U-Net with a velocity field, trained by regbench on simulated brains with an image loss",
        paradigm="learned",
        supervision="image",
        transformation="diffeomorphic",
        citation=_VOXELMORPH,
        licence="Apache-2.0",
        packages=(TORCH, SAFETENSORS),
        trained_on=_COHORT,
        weights="voxelmorph-cohort",
        grids="any; images must lie roughly in MNI space",
        notes="Small, trained on two CPU cores in under an hour on 256 simulated subjects (one template under smooth "
        "deformations), 3-D at 3 mm: not meant for clinical scans. Held-out subjects, configs/quickstart.yaml: "
        "Dice .736 (identity .488) in 3-D and .787 (.355) in 2-D; .700 and .751 with gamma 3.",
        deterministic="yes, for a fixed number of threads",
    ),
    Card(
        name="voxelmorph-cohort-sup",
        target="regbench.methods.trained:SupervisedVoxelMorph",
        summary="the same network, the last part of its training with labels (parcels) as well",
        paradigm="learned",
        supervision="labels",
        transformation="diffeomorphic",
        citation=_VOXELMORPH,
        licence="Apache-2.0",
        packages=(TORCH, SAFETENSORS),
        trained_on=_COHORT,
        weights="voxelmorph-cohort-sup",
        grids="any; images must lie roughly in MNI space",
        notes="As voxelmorph-cohort; the last 3000 (3-D) or 5000 (2-D) steps with soft Dice of the parcels beside the "
        "image loss. Held-out subjects, configs/quickstart.yaml: Dice .739 (identity .488) in 3-D and .794 (.355) in "
        "2-D; .700 and .748 with gamma 3.",
        deterministic="yes, for a fixed number of threads",
    ),
    Card(
        name="synth-shapes",
        target="regbench.methods.synth_shapes:SynthShapes",
        summary="feature pyramids for images of any contrast, trained by regbench on made-up shapes alone",
        paradigm="learned",
        supervision="synthetic",
        transformation="diffeomorphic",
        citation="Hoffmann et al., IEEE Transactions on Medical Imaging 41 (2022) 543-558; in 3-D also Heinrich et "
        "al., MICCAI (2013), LNCS 8149, 187-194",
        licence="Apache-2.0",
        packages=(TORCH, SAFETENSORS),
        trained_on=_NOTHING,
        weights="synth-shapes",
        dimensions=(2, 3),
        grids="any; read around the fixed image at 2 mm",
        notes="2-D: 5000 steps of four made-up pairs, 14 minutes; 3-D: 1100 steps of one, 25 minutes; one CPU thread "
        "each (configs/train/synth-shapes-*d.yaml). No scan was seen. Two passes, six test pairs of mni-cohort: 2-D "
        "Dice .806 (identity .424, demons .734), moving image inverted .745 (demons .141), made T2-like .728 (.153); "
        "3-D at 3 mm .815 (identity .488, affine .537, demons .740), inverted .805 (demons .286), T2-like .805 (.294). "
        "Real 2-D slices after affine: .435 (affine .386, demons .515), no gain for sure where contrasts differ. "
        "Two real brains of OASIS at 2 mm: .690 (identity .457, affine .473, demons .737), inverted .687 (demons "
        ".119), T2-like .679 (.123). The 3-D network matches self-similarity by construction: untrained it reaches "
        ".698 on the two brains; its training added 2 points on made-up pairs and under 1 on the cohort. Cohort and "
        "real pairs were looked at while both were made: no untouched test.",
        deterministic="yes, for a fixed number of threads",
    ),
    Card(
        name="trained",
        target="regbench.methods.trained:Trained",
        summary="a network of your own, from the model.safetensors of `regbench train`",
        paradigm="learned",
        supervision="image",
        transformation="diffeomorphic",
        citation="of the network: `regbench methods` tells of the kinds that can be trained",
        licence="yours",
        packages=(TORCH, SAFETENSORS),
        trained_on={"dataset": "what its weight file tells"},
        grids="any; images must lie in the space of its training data, unless its weight file tells otherwise",
        notes="In a config: {my-net: {weights: runs/train/NAME/model.safetensors}}, a path relative to the config. "
        "Supervision, transformation, dimension, licence and what it was trained on are read from the weight file.",
        deterministic=_SAME_BITS,
    ),
    Card(
        name="symnet-oasis",
        target="regbench.methods.symnet:SymnetOasis",
        summary="SYMNet as released: both images are led to their middle by velocities, so both directions are known",
        paradigm="learned",
        supervision="image",
        transformation="diffeomorphic",
        citation=WEIGHTS["symnet-oasis"].citation,
        licence=f"{WEIGHTS['symnet-oasis'].licence} (weights)",
        dimensions=(3,),
        packages=(TORCH,),
        trained_on=_FIRST_OASIS,
        weights="symnet-oasis",
        grids="any; read at 1 mm in LIA, every axis padded to a multiple of 16",
        notes="For skull-stripped T1 brains in the affine space of neurite-OASIS. Reproduces the released code to 2e-5 "
        "voxels. Dice of 35 labels, 0002 to 0001 of neurite-OASIS (trained on): .767 (identity .459).",
        deterministic=_SAME_BITS,
    ),
    Card(
        name="lapirn-disp-oasis",
        target="regbench.methods.lapirn:LapirnDisp",
        summary="LapIRN as released: a pyramid of three networks that adds up displacements",
        paradigm="learned",
        supervision="image",
        transformation="deformable",
        citation=WEIGHTS["lapirn-disp-oasis"].citation,
        licence=f"{WEIGHTS['lapirn-disp-oasis'].licence} (weights)",
        dimensions=(3,),
        packages=(TORCH,),
        trained_on=_SOME_OASIS,
        weights="lapirn-disp-oasis",
        grids="any; read at 1 mm on the middle 160x192x144 voxels",
        notes="For skull-stripped T1 brains in the affine space of neurite-OASIS. Reproduces the released code to 2e-6 "
        "voxels. Dice of 35 labels, 0002 to 0001 of neurite-OASIS: .802 on its crop (identity .460); on whole brains "
        ".800 in LIA, .807 with `orientation: LAS` (identity .459).",
        deterministic=_SAME_BITS,
    ),
    Card(
        name="lapirn-diff-oasis",
        target="regbench.methods.lapirn:LapirnDiff",
        summary="LapIRN as released: a pyramid of three networks that adds up velocities and integrates them",
        paradigm="learned",
        supervision="image",
        transformation="diffeomorphic",
        citation=WEIGHTS["lapirn-diff-oasis"].citation,
        licence=f"{WEIGHTS['lapirn-diff-oasis'].licence} (weights)",
        dimensions=(3,),
        packages=(TORCH,),
        trained_on=_SOME_OASIS,
        weights="lapirn-diff-oasis",
        grids="any; read at 1 mm on the middle 160x192x144 voxels",
        notes="For skull-stripped T1 brains in the affine space of neurite-OASIS. Reproduces the released code to 2e-6 "
        "voxels. Dice of 35 labels, 0002 to 0001 of neurite-OASIS: .729 on its crop (identity .460); on whole brains "
        ".727 in LIA, .720 with `orientation: LAS` (identity .459).",
        deterministic=_SAME_BITS,
    ),
    Card(
        name="clapirn-oasis",
        target="regbench.methods.lapirn:ConditionalLapirn",
        summary="conditional LapIRN (lite) as released: the weight of the regularisation is an input",
        paradigm="learned",
        supervision="image",
        transformation="deformable",
        citation=WEIGHTS["clapirn-oasis"].citation,
        licence=f"{WEIGHTS['clapirn-oasis'].licence} (weights)",
        dimensions=(3,),
        packages=(TORCH,),
        trained_on=_ALL_OASIS,
        weights="clapirn-oasis",
        grids="any; read at 1 mm in LIA on the middle 160x192x224 voxels",
        notes="For skull-stripped T1 brains in the affine space of neurite-OASIS. Reproduces the released code to 1e-6 "
        "voxels. Dice of 35 labels, 0002 to 0001 of neurite-OASIS (trained on), regularisation 0.1: .794 (identity "
        ".459).",
        deterministic=_SAME_BITS,
    ),
    Card(
        name="lku-net",
        target="regbench.methods.lku_net:LkuNetIxi",
        summary="LKU-Net as released for IXI: a U-Net with large kernels in its encoder, and a velocity",
        paradigm="learned",
        supervision="image",
        transformation="diffeomorphic",
        citation=WEIGHTS["lku-net-3d-ixi"].citation,
        licence=f"{WEIGHTS['lku-net-3d-ixi'].licence} (weights)",
        dimensions=(3,),
        packages=(TORCH,),
        trained_on=_IXI,
        weights="lku-net-3d-ixi",
        grids="any; read at 1 mm in LIA on the middle 160x192x224 voxels",
        notes="For skull-stripped T1 brains in the affine space of neurite-OASIS; trained to register an atlas with "
        "subjects. Reproduces the released code to 2e-6 voxels. Dice of 35 labels, 0002 to 0001 of neurite-OASIS: .672 "
        "(identity .459). For slices: lku-net-2d.",
        deterministic=_SAME_BITS,
    ),
    Card(
        name="lku-net-2d",
        target="regbench.methods.lku_net:LkuNetOasis2d",
        summary="LKU-Net as released for slices of neurite-OASIS",
        paradigm="learned",
        supervision="image",
        transformation="deformable",
        citation=WEIGHTS["lku-net-2d-oasis-0.05"].citation,
        licence=f"{WEIGHTS['lku-net-2d-oasis-0.05'].licence} (weights)",
        dimensions=(2,),
        packages=(TORCH,),
        trained_on=_LISTED_OASIS,
        weights="lku-net-2d-oasis-0.05",
        grids="any; read at 1 mm on the middle 160x192 pixels, first axis to the left, second downwards",
        notes="For coronal slices of skull-stripped T1 brains as in neurite-OASIS. Reproduces the released code to "
        "3e-5 voxels. Dice, 0002 to 0001 of neurite-OASIS (trained on): .802 for 0.05, .782 for 0.1 (identity .458); "
        ".701 and .684 if the 3 of 24 labels that only one slice has count 0. Its fields may fold.",
        deterministic=_SAME_BITS,
    ),
    Card(
        name="fourier-net",
        target="regbench.methods.fourier_net:FourierNet",
        summary="Fourier-Net as released for slices of neurite-OASIS: the low frequencies of a displacement",
        paradigm="learned",
        supervision="image",
        transformation="deformable",
        citation=WEIGHTS["fourier-net-2d-oasis"].citation,
        licence=f"{WEIGHTS['fourier-net-2d-oasis'].licence} (weights)",
        dimensions=(2,),
        packages=(TORCH,),
        trained_on=_LISTED_OASIS,
        weights="fourier-net-2d-oasis",
        grids="any; read at 1 mm on the middle 160x192 pixels, first axis to the left, second downwards",
        notes="For coronal slices of skull-stripped T1 brains as in neurite-OASIS. Reproduces the released code to "
        "1e-6 voxels. Dice, 0002 to 0001 of neurite-OASIS (trained on): .785 (identity .458); .687 if the 3 of 24 "
        "labels that only one slice has count 0.",
        deterministic=_SAME_BITS,
    ),
    Card(
        name="fourier-net-diff",
        target="regbench.methods.fourier_net:FourierNetDiff",
        summary="Fourier-Net as released for slices of neurite-OASIS: the low frequencies of a velocity",
        paradigm="learned",
        supervision="image",
        transformation="diffeomorphic",
        citation=WEIGHTS["fourier-net-2d-oasis-diff"].citation,
        licence=f"{WEIGHTS['fourier-net-2d-oasis-diff'].licence} (weights)",
        dimensions=(2,),
        packages=(TORCH,),
        trained_on=_LISTED_OASIS,
        weights="fourier-net-2d-oasis-diff",
        grids="any; read at 1 mm on the middle 160x192 pixels, first axis to the left, second downwards",
        notes="For coronal slices of skull-stripped T1 brains as in neurite-OASIS. Reproduces the released code to "
        "3e-4 voxels. Dice, 0002 to 0001 of neurite-OASIS (trained on): .764 (identity .458); .669 if the 3 of 24 "
        "labels that only one slice has count 0.",
        deterministic=_SAME_BITS,
    ),
    Card(
        name="lessnet",
        target="regbench.methods.lessnet:LessNet",
        summary="LessNet as released for IXI: a decoder alone, on pooled copies of the images",
        paradigm="learned",
        supervision="image",
        transformation="deformable",
        citation=WEIGHTS["lessnet-3d-ixi-16"].citation,
        licence=f"{WEIGHTS['lessnet-3d-ixi-16'].licence} (weights)",
        dimensions=(3,),
        packages=(TORCH,),
        trained_on=_IXI,
        weights="lessnet-3d-ixi-16",
        grids="any; read at 1 mm in LIA on the middle 160x192x224 voxels",
        notes="For skull-stripped T1 brains in the affine space of neurite-OASIS; trained to register an atlas with "
        "subjects. Reproduces the released code to 2e-6 voxels. Dice of 35 labels, 0002 to 0001 of neurite-OASIS: .611 "
        "with 16 channels, .534 with 8 (identity .459). Sensitive to the scale of intensities.",
        deterministic=_SAME_BITS,
    ),
    Card(
        name="lessnet-diff",
        target="regbench.methods.lessnet:LessNetDiff",
        summary="LessNet as released for IXI, whose field is a velocity",
        paradigm="learned",
        supervision="image",
        transformation="diffeomorphic",
        citation=WEIGHTS["lessnet-3d-ixi-8-diff"].citation,
        licence=f"{WEIGHTS['lessnet-3d-ixi-8-diff'].licence} (weights)",
        dimensions=(3,),
        packages=(TORCH,),
        trained_on=_IXI,
        weights="lessnet-3d-ixi-8-diff",
        grids="any; read at 1 mm in LIA on the middle 160x192x224 voxels",
        notes="For skull-stripped T1 brains in the affine space of neurite-OASIS; trained to register an atlas with "
        "subjects. Reproduces the released code to 6e-6 voxels. Dice of 35 labels, 0002 to 0001 of neurite-OASIS: .638 "
        "(identity .459).",
        deterministic=_SAME_BITS,
    ),
    Card(
        name="voxelmorph-2018",
        target="regbench.methods.voxelmorph_2018:VoxelMorph2018",
        summary="VoxelMorph as released with the CVPR 2018 paper (Keras files)",
        paradigm="learned",
        supervision="image",
        transformation="deformable",
        citation=WEIGHTS["voxelmorph-2018-vm2-cc"].citation,
        licence=f"{WEIGHTS['voxelmorph-2018-vm2-cc'].licence} (weights)",
        dimensions=(3,),
        packages=(TORCH, H5PY),
        trained_on=_BEFORE_2018,
        weights="voxelmorph-2018-vm2-cc",
        grids="any; read at 1 mm in LIA, every axis padded to a multiple of 16",
        notes="For skull-stripped T1 brains in the affine space of neurite-OASIS; trained to register an atlas with "
        "subjects. Reproduces an independent implementation to 1e-5 voxels. Dice of 35 labels, 0002 to 0001 of "
        "neurite-OASIS: .742 with vm2-cc and vm2-l2, .739 with vm1-cc (identity .459). Its fields may fold.",
        deterministic=_SAME_BITS,
    ),
    Card(
        name="pddnet",
        target="regbench.methods.pddnet:PddNet",
        summary="PDD-Net as released for abdominal CT: probabilities of dense displacements of learned samples",
        paradigm="learned",
        supervision="image",
        transformation="deformable",
        citation=WEIGHTS["pddnet-mind"].citation,
        licence=f"{WEIGHTS['pddnet-mind'].licence} (weights)",
        dimensions=(3,),
        packages=(TORCH,),
        trained_on=_ABDOMEN,
        weights="pddnet-mind",
        grids="any; read at 2 mm, in the order of its axes, on the middle 192x160x256 voxels",
        notes="For abdominal CT in Hounsfield units, in the space of Learn2Reg AbdomenCTCT; not tried on real CT here. "
        "Costs and probabilities are those of the released code to 1e-6. The fit that ends each pass amplifies "
        "rounding, in the released code as well: fields of synthetic images agree to 0.2 voxels on average. On smaller "
        "ones it is 0.04, which is as far as the released code is from itself when one image is 1e-6 brighter.",
        deterministic=_SAME_BITS,
    ),
    Card(
        name="point-cloud-lung",
        target="regbench.methods.point_cloud:PointCloudLung",
        summary="a graph network on the keypoints of two lungs as released, belief propagation, a thin-plate spline",
        paradigm="learned",
        supervision="labels",
        transformation="deformable",
        citation=WEIGHTS["point-cloud-lung-copd-to-l2r"].citation,
        licence=f"{WEIGHTS['point-cloud-lung-copd-to-l2r'].licence} (weights)",
        dimensions=(3,),
        packages=(TORCH,),
        trained_on=_LUNGS,
        weights="point-cloud-lung-copd-to-l2r",
        grids="any, cut to the lungs, with the axes of Learn2Reg LungCT (192x192x208)",
        notes="Needs keypoints of both images, thousands of them, and denser ones in the moving image; intensities are "
        "not looked at. Learnt from known displacements of keypoints. Reproduces the released code to 1e-3 voxels on "
        "average, more only where neighbours are equally far. Mean TRE of Learn2Reg cases 1 to 3 with their "
        "corresponding keypoints, shuffled: 2.1, 3.1 and 1.9 mm (identity 20.2, 15.6 and 8.1).",
        deterministic=_SAME_BITS,
    ),
    *OWN_WEIGHTS,
    Card(
        name="instance-optimise",
        target="regbench.methods.instance:InstanceOptimise",
        summary="the field of any method refined by gradient descent on the pair",
        paradigm="hybrid",
        supervision="image",
        transformation="diffeomorphic",
        citation="Arsigny et al., MICCAI 2006, LNCS 4190, 924-931 (flows); Kingma and Ba, ICLR 2015 (Adam)",
        licence="Apache-2.0",
        packages=(TORCH,),
        trained_on=_COHORT,
        grids="any; what the start says",
        notes="In a config: {instance-optimise: {start: symnet-oasis}}, or {start: {demons: {shrink: [4, 2]}}}. "
        "Supervision, what it was trained on, weights, packages and environment are those of the start, here of "
        "voxelmorph-cohort; from a classical start it is classical. The flow of a velocity adds no folds by "
        "itself; NDV of one start with folds, symnet-oasis, went from .0057 to .0065 % of a real pair. Twenty CPU "
        "seconds for a brain at 2 mm, beside those of the start.",
        deterministic="yes on the CPU, for a fixed number of threads",
    ),
)
