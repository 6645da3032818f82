"""Released weights by name: official addresses, checksums, sizes, licences.

Only facts: no file is part of regbench. Addresses are those of the repositories of the authors, at a commit that has
the file; the checksum decides whether what comes from there is the file that was tried. Licences are those of the
repositories at that commit. "none stated" is no permission to pass a file on.
"""

from __future__ import annotations

from dataclasses import dataclass

from regbench.errors import ConfigError
from regbench.parameters import nearest
from regbench.weights import WeightFile, fetched_path

_RAW = "https://raw.githubusercontent.com"


@dataclass(frozen=True)
class _Origin:
    """The repository that files come from."""

    repository: str
    licence: str
    citation: str

    def row(self, name: str, n_bytes: int, sha256: str, *places: str, suffix: str = ".pth") -> WeightFile:
        """A file of it, at places that are a commit and a path."""
        return WeightFile(
            name=name,
            suffix=suffix,
            n_bytes=n_bytes,
            sha256=sha256,
            source=f"https://github.com/{self.repository}",
            licence=self.licence,
            citation=self.citation,
            addresses=tuple(f"{_RAW}/{self.repository}/{place}" for place in places),
        )


_SYMNET = _Origin(
    "cwmok/Fast-Symmetric-Diffeomorphic-Image-Registration-with-Convolutional-Neural-Networks",
    "MIT",
    "Mok and Chung, Fast symmetric diffeomorphic image registration with convolutional neural networks, CVPR 2020",
)
_LAPIRN = _Origin(
    "cwmok/LapIRN",
    "MIT",
    "Mok and Chung, Large deformation diffeomorphic image registration with Laplacian pyramid networks, MICCAI 2020",
)
_CLAPIRN = _Origin(
    "cwmok/Conditional_LapIRN",
    "MIT",
    "Mok and Chung, Conditional deformable image registration with convolutional neural network, MICCAI 2021",
)
_LKU = _Origin(
    "xi-jia/LKU-Net",
    "none stated",
    "Jia et al., U-Net vs Transformer: is U-Net outdated in medical image registration?, MLMI 2022",
)
_FOURIER = _Origin(
    "xi-jia/Fourier-Net",
    "none stated",
    "Jia et al., Fourier-Net: fast image registration with band-limited deformation, AAAI 2023",
)
_LESSNET = _Origin(
    "xi-jia/LessNet",
    "none stated",
    "Jia et al., Decoder-only image registration, arXiv 2402.03585",
)
_VOXELMORPH = _Origin(
    "voxelmorph/voxelmorph",
    "GPL-3.0",
    "Balakrishnan et al., An unsupervised learning model for deformable medical image registration, CVPR 2018",
)
_PDDNET = _Origin(
    "multimodallearning/pdd_net",
    "Apache-2.0",
    "Heinrich, Closing the gap between deep and conventional image registration using probabilistic dense displacement "
    "networks, MICCAI 2019",
)
_POINT_CLOUD = _Origin(
    "multimodallearning/registration-da-mean-teacher",
    "MIT",
    "Bigalke et al., Adapting the mean teacher for keypoint-based lung registration under geometric domain shifts, "
    "MICCAI 2022",
)

_ROWS = (
    _SYMNET.row(
        "symnet-oasis",
        3_464_633,
        "e27a7eebedf6c0dd9a6823e5f65986ec2b11998f60eef68b45ff978c3efa3f79",
        "f16a29dab36be94d856ae32c67e2e923d2924748/Model/SYMNet_neurite_oasis_smo30_update_80000.pth",
    ),
    _LAPIRN.row(
        "lapirn-disp-oasis",
        3_717_631,
        "9485191cb215e69b6b43ec4d64eb4fd4be4dcec6fce9f59209d8510378cdc2c0",
        "3effd6ccdbc0f44686a26c5b020a33849e9de4bc/Model/LapIRN_disp_fea7.pth",
    ),
    _LAPIRN.row(
        "lapirn-diff-oasis",
        3_717_503,
        "1f37ca274dfbe9f44b5b66722401aa179d4b8b572ad6a73d3b1094d98b10737a",
        "3effd6ccdbc0f44686a26c5b020a33849e9de4bc/Model/LapIRN_diff_fea7.pth",
    ),
    _CLAPIRN.row(
        "clapirn-oasis",
        2_115_225,
        "c67ac1c8535a45f856d79c89686fb49a7eb9b349b7d7b9f704010d7a5c3d9089",
        "609b89a922864a4cf1d8ae8a61ce5d56a800c9f1/Model/LDR_OASIS_NCC_unit_disp_add_fea4_reg01_10_lite_stagelvl3_60000.pth",
    ),
    _LKU.row(
        "lku-net-2d-oasis-0.05",
        3_146_537,
        "68c849f8d3e61ca5d8d871f12eeb29f8fa713ee3471735abba3fe846ae0f0827",
        "c304a36d099a084ebaba743de387fab816c182c2/LKU-Net_2D_OASIS/L2ss_2_Chan_8_Smth_0.05_Set_4_LR_0.0001_Pth/DiceVal_0.7571_Step_000249240.pth",
    ),
    _LKU.row(
        "lku-net-2d-oasis-0.1",
        3_146_537,
        "c85fb794cc72b1f4150b46b3d55857257fe7e56c80bc9decd83e51190fa8ae2d",
        "f313c02dcd8b2b61d249bc4bec7fff6b3785235c/2D_OASIS_LKU-Net_8.7/L2ss_2_Chan_8_Smth_0.1_Set_4_LR_0.0001_Pth/DiceVal_0.7568_Step_000377880.pth",
    ),
    _LKU.row(
        "lku-net-3d-ixi",
        2_119_785,
        "5c4db88e23c6e3c49ac16a60df2cc0ddc953fc08712c2e44f751d2f40ab0bc33",
        "6a2b6546976e03909d2de2104a773a56bdf20eb7/L2ss_2_Chan_4_LR_0.0001_Smooth_5.0/DiceVal_0.7411_Epoch_0879.pth",
    ),
    _FOURIER.row(
        "fourier-net-2d-oasis",
        1_538_140,
        "34f5a95ca10f1456c84b76b1eec73ecc105f1abd36415827354dfd93e747fed4",
        "1f24b99e00eb5c1f5a4df726379fc258b4b0e120/2D%20Fourier-Net/L2ss_1_Chan_8_Smth_0.01_Set_4_LR_0.0001_Pth/DiceVal_0.74650_Epoch_000365820.pth",
        "65d7e4cb9f3cded0ce6b7ce3f44268fc3604182b/2D%20Fourier-Net%20Inference/Code/DiceVal_0.74869_Epoch_000317580.pth",
    ),
    _FOURIER.row(
        "fourier-net-2d-oasis-diff",
        1_538_140,
        "8987202304c8458a141e8db1cc10f50970c6b365ba042a4d7053705a1add0cf8",
        "1f24b99e00eb5c1f5a4df726379fc258b4b0e120/2D%20Fourier-Net-Diff/L2ss_1_Chan_8_Smth_0.01_Set_4_LR_0.0001_Pth/DiceVal_0.75107_Epoch_000361800.pth",
    ),
    _LESSNET.row(
        "lessnet-3d-ixi-8",
        515_546,
        "5cfbdd179f6339c1c041a73c3f6cc40d74ad08d82960e428a33b0af994e78cf7",
    ),
    _LESSNET.row(
        "lessnet-3d-ixi-16",
        1_934_618,
        "ca7469be6a5737162ddb883cb861daf8d7315c05dceb844504fa5895121c09b9",
        "68e9d680c4d0de053410fe8071f75e23bd13a38e/3D_LessNet/L2ss_2_Chan_16_Smth_5.0_LR_0.0001_Val/DiceVal_0.75407_Epoch_000000416.pth",
    ),
    _LESSNET.row(
        "lessnet-3d-ixi-8-diff",
        515_546,
        "7f50ae8b5d9e1c90026867e3549640c445b0f71810920337ce8768c0b62a85b3",
        "88468b663b40a86319af4904b76a1abb52ffa323/3D_LessNet_Diff/L2ss_2_Chan_8_Smth_2.0_LR_0.0001_Val/DiceVal_0.74972_Epoch_000000498.pth",
        "2b5bb5089b364df563386f7281b4e28c4eb29da3/3D_LessNet_Diff/L2ss_2_Chan_8_Smth_2.0_LR_0.0001_Val/DiceVal_0.75676_Epoch_000000423.pth",
    ),
    _VOXELMORPH.row(
        "voxelmorph-2018-vm1-cc",
        1_110_344,
        "11099f47b0cb15226b48cd0228e43bebeaffa7c615c659fb4797c0d1837cae90",
        "94539fb98215fd4610c8bd8c5b2bf44b951e608b/models/cvpr2018_vm1_cc.h5",
        suffix=".h5",
    ),
    _VOXELMORPH.row(
        "voxelmorph-2018-vm1-l2",
        1_110_344,
        "97d3093a61ac4660510c729329ecb107a9a342e719727e7e73d69693541502e8",
        "94539fb98215fd4610c8bd8c5b2bf44b951e608b/models/cvpr2018_vm1_l2.h5",
        suffix=".h5",
    ),
    _VOXELMORPH.row(
        "voxelmorph-2018-vm2-cc",
        1_278_136,
        "ab94aceb10a5462f695d018adef4f7d3e558cc0d76a392c76e7f78f0d98d6b61",
        "94539fb98215fd4610c8bd8c5b2bf44b951e608b/models/cvpr2018_vm2_cc.h5",
        suffix=".h5",
    ),
    _VOXELMORPH.row(
        "voxelmorph-2018-vm2-l2",
        1_278_048,
        "6225ee716ca02fdb47bea685edb299eab1bc2d89b71a1e721982fe3ddf92178e",
        "94539fb98215fd4610c8bd8c5b2bf44b951e608b/models/cvpr2018_vm2_l2.h5",
        suffix=".h5",
    ),
    _PDDNET.row(
        "pddnet-mind",
        1_087_650,
        "edbeb707c320464eea1dd4926b51bd9c57b4cb60832fe5b011b0f5f8b031d04b",
        "a4337f6821c186b466bf0a7dd0951432bbdcc30a/dense_reg_mind2_feat_epoch2999.pth",
    ),
    _PDDNET.row(
        "pddnet-v01-features",
        270_476,
        "8b7dec64617b9e53fbf2e0ee5b197ad8ef301c8403fd78a58e05431944a38d29",
        "ab3b7deb09574ba2f1179c89f188a9752d94bbab/dense_reg_feat_v01.pth",
    ),
    _PDDNET.row(
        "pddnet-v01-regulariser",
        504,
        "43f81a0f8c61ba4df6c90960e593c7dcc586dd6347bdad0ac5e9e85dbab258e9",
        "ab3b7deb09574ba2f1179c89f188a9752d94bbab/dense_reg_deeds_v01.pth",
    ),
    _POINT_CLOUD.row(
        "point-cloud-lung-4dct-to-copd-1",
        111_745,
        "bad348f3696d632b49cca3c22e90a020cf8457962f6a0612dec1aa53754bb041",
        "abb7c85ace921f4f98e8aecd277b7ddeec634530/models/4dct-to-copd_ours_fold1.pth",
    ),
    _POINT_CLOUD.row(
        "point-cloud-lung-4dct-to-copd-2",
        111_745,
        "180dec58fc1da551f83feaef8bd7f9cd78d64284a61362d75dbae304358afec0",
        "abb7c85ace921f4f98e8aecd277b7ddeec634530/models/4dct-to-copd_ours_fold2.pth",
    ),
    _POINT_CLOUD.row(
        "point-cloud-lung-copd-to-l2r",
        111_745,
        "538ac607539bdd8425d7727149dbce0a37788dc9ebcda8a5a2db052f420988a7",
        "abb7c85ace921f4f98e8aecd277b7ddeec634530/models/copd-to-l2r_ours.pth",
    ),
)

WEIGHTS: dict[str, WeightFile] = {row.name: row for row in _ROWS}


def weights(name: str) -> WeightFile:
    """A row by name; ConfigError with the nearest known one if there is none."""
    if name not in WEIGHTS:
        raise ConfigError(f"unknown weights '{name}'{nearest(name, list(WEIGHTS))}; known: {', '.join(WEIGHTS)}")
    return WEIGHTS[name]


def fetch_hint(name: str | None) -> str | None:
    """The line that fetches released weights that are not here yet; None if they are, or are none of these."""
    row = WEIGHTS.get(name or "")
    return f"regbench weights fetch {name}" if row is not None and fetched_path(row) is None else None
