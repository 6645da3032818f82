"""The publications behind metrics, statistics and widely used methods, as BibTeX fields.

Keyed by how texts in tables name them: first author and year, in lower case. Where cards and tables cite something
that is not here, `regbench.reports.references` makes an entry of the text itself.
"""

from __future__ import annotations

_TMI = "IEEE Transactions on Medical Imaging"
_MEDIA = "Medical Image Analysis"
_MICCAI = "Medical Image Computing and Computer-Assisted Intervention"

# Key: kind of entry, authors, title, where, year, further fields.
_ROWS: dict[str, tuple[str, str, str, str, dict[str, str]]] = {
    "dice1945": (
        "article",
        "Dice, Lee R.",
        "Measures of the amount of ecologic association between species",
        "Ecology",
        {"volume": "26", "number": "3", "pages": "297--302"},
    ),
    "jaccard1912": (
        "article",
        "Jaccard, Paul",
        "The distribution of the flora in the alpine zone",
        "New Phytologist",
        {"volume": "11", "number": "2", "pages": "37--50"},
    ),
    "hering2023": (
        "article",
        "Hering, Alessa and others",
        "Learn2Reg: comprehensive multi-task medical image registration challenge, dataset and evaluation in the "
        "era of deep learning",
        _TMI,
        {"volume": "42", "number": "3", "pages": "697--712"},
    ),
    "taha2015": (
        "article",
        "Taha, Abdel Aziz and Hanbury, Allan",
        "Metrics for evaluating 3D medical image segmentation: analysis, selection, and tool",
        "BMC Medical Imaging",
        {"volume": "15", "pages": "29"},
    ),
    "nikolov2021": (
        "article",
        "Nikolov, Stanislav and others",
        "Clinically applicable segmentation of head and neck anatomy for radiotherapy: deep learning algorithm "
        "development and validation study",
        "Journal of Medical Internet Research",
        {"volume": "23", "number": "7", "pages": "e26151"},
    ),
    "heimann2009": (
        "article",
        "Heimann, Tobias and others",
        "Comparison and evaluation of methods for liver segmentation from CT datasets",
        _TMI,
        {"volume": "28", "number": "8", "pages": "1251--1265"},
    ),
    "fitzpatrick2001": (
        "article",
        "Fitzpatrick, J. Michael and West, Jay B.",
        "The distribution of target registration error in rigid-body point-based registration",
        _TMI,
        {"volume": "20", "number": "9", "pages": "917--927"},
    ),
    "liu2024": (
        "article",
        "Liu, Yihao and others",
        "On finite difference Jacobian computation in deformable image registration",
        "International Journal of Computer Vision",
        {"doi": "10.1007/s11263-024-02047-1"},
    ),
    "leow2007": (
        "article",
        "Leow, Alex D. and others",
        "Statistical properties of Jacobian maps and the realization of unbiased large-deformation nonlinear image "
        "registration",
        _TMI,
        {"volume": "26", "number": "6", "pages": "822--832"},
    ),
    "rueckert1999": (
        "article",
        "Rueckert, Daniel and others",
        "Nonrigid registration using free-form deformations: application to breast MR images",
        _TMI,
        {"volume": "18", "number": "8", "pages": "712--721"},
    ),
    "baker2011": (
        "article",
        "Baker, Simon and others",
        "A database and evaluation methodology for optical flow",
        "International Journal of Computer Vision",
        {"volume": "92", "number": "1", "pages": "1--31"},
    ),
    "christensen2001": (
        "article",
        "Christensen, Gary E. and Johnson, Hans J.",
        "Consistent image registration",
        _TMI,
        {"volume": "20", "number": "7", "pages": "568--582"},
    ),
    "pearson1895": (
        "article",
        "Pearson, Karl",
        "Note on regression and inheritance in the case of two parents",
        "Proceedings of the Royal Society of London",
        {"volume": "58", "pages": "240--242"},
    ),
    "avants2008": (
        "article",
        "Avants, Brian B. and Epstein, Charles L. and Grossman, Murray and Gee, James C.",
        "Symmetric diffeomorphic image registration with cross-correlation: evaluating automated labeling of elderly "
        "and neurodegenerative brain",
        _MEDIA,
        {"volume": "12", "number": "1", "pages": "26--41"},
    ),
    "balakrishnan2019": (
        "article",
        "Balakrishnan, Guha and Zhao, Amy and Sabuncu, Mert R. and Guttag, John and Dalca, Adrian V.",
        "VoxelMorph: a learning framework for deformable medical image registration",
        _TMI,
        {"volume": "38", "number": "8", "pages": "1788--1800"},
    ),
    "studholme1999": (
        "article",
        "Studholme, Colin and Hill, Derek L. G. and Hawkes, David J.",
        "An overlap invariant entropy measure of 3D medical image alignment",
        "Pattern Recognition",
        {"volume": "32", "number": "1", "pages": "71--86"},
    ),
    "wang2004": (
        "article",
        "Wang, Zhou and Bovik, Alan C. and Sheikh, Hamid R. and Simoncelli, Eero P.",
        "Image quality assessment: from error visibility to structural similarity",
        "IEEE Transactions on Image Processing",
        {"volume": "13", "number": "4", "pages": "600--612"},
    ),
    "miller1955": (
        "incollection",
        "Miller, George A.",
        "Note on the bias of information estimates",
        "Information Theory in Psychology: Problems and Methods",
        {"pages": "95--100"},
    ),
    "jena2024": (
        "misc",
        "Jena, Rohit and Sethi, Deeksha and Chaudhari, Pratik and Gee, James C.",
        "Deep learning in medical image registration: magic or mirage?",
        "arXiv:2408.05839",
        {},
    ),
    "theil1970": (
        "article",
        "Theil, Henri",
        "On the estimation of relationships involving qualitative variables",
        "American Journal of Sociology",
        {"volume": "76", "number": "1", "pages": "103--154"},
    ),
    "fafchamps2007": (
        "article",
        "Fafchamps, Marcel and Gubert, Flore",
        "The formation of risk sharing networks",
        "Journal of Development Economics",
        {"volume": "83", "number": "2", "pages": "326--350"},
    ),
    "aronow2015": (
        "article",
        "Aronow, Peter M. and Samii, Cyrus and Assenova, Valentina A.",
        "Cluster-robust variance estimation for dyadic data",
        "Political Analysis",
        {"volume": "23", "number": "4", "pages": "564--577"},
    ),
    "bell2002": (
        "article",
        "Bell, Robert M. and McCaffrey, Daniel F.",
        "Bias reduction in standard errors for linear regression with multi-stage samples",
        "Survey Methodology",
        {"volume": "28", "number": "2", "pages": "169--181"},
    ),
    "vercauteren2009": (
        "article",
        "Vercauteren, Tom and Pennec, Xavier and Perchant, Aymeric and Ayache, Nicholas",
        "Diffeomorphic demons: efficient non-parametric image registration",
        "NeuroImage",
        {"volume": "45", "number": "1", "pages": "S61--S72"},
    ),
    "klein2010": (
        "article",
        "Klein, Stefan and Staring, Marius and Murphy, Keelin and Viergever, Max A. and Pluim, Josien P. W.",
        "elastix: a toolbox for intensity-based medical image registration",
        _TMI,
        {"volume": "29", "number": "1", "pages": "196--205"},
    ),
    "mattes2003": (
        "article",
        "Mattes, David and others",
        "PET-CT image registration in the chest using free-form deformations",
        _TMI,
        {"volume": "22", "number": "1", "pages": "120--128"},
    ),
    "hoffmann2022": (
        "article",
        "Hoffmann, Malte and others",
        "SynthMorph: learning contrast-invariant registration without acquired images",
        _TMI,
        {"volume": "41", "number": "3", "pages": "543--558"},
    ),
    "chen2022": (
        "article",
        "Chen, Junyu and others",
        "TransMorph: transformer for unsupervised medical image registration",
        _MEDIA,
        {"volume": "82", "pages": "102615"},
    ),
    "siebert2025": (
        "article",
        "Siebert, Hanna and others",
        "ConvexAdam: self-configuring dual-optimization-based 3D multitask medical image registration",
        _TMI,
        {"volume": "44", "number": "2", "pages": "738--748"},
    ),
    "yushkevich2016": (
        "article",
        "Yushkevich, Paul A. and others",
        "Fast automatic segmentation of hippocampal subfields and medial temporal lobe subregions in 3 Tesla and 7 "
        "Tesla T2-weighted MRI",
        "Alzheimer's & Dementia",
        {"volume": "12", "pages": "P126--P127"},
    ),
    "otsu1979": (
        "article",
        "Otsu, Nobuyuki",
        "A threshold selection method from gray-level histograms",
        "IEEE Transactions on Systems, Man, and Cybernetics",
        {"volume": "9", "number": "1", "pages": "62--66"},
    ),
    "vercauteren2007": (
        "inproceedings",
        "Vercauteren, Tom and Pennec, Xavier and Perchant, Aymeric and Ayache, Nicholas",
        "Non-parametric diffeomorphic image registration with the demons algorithm",
        _MICCAI,
        {"series": "LNCS", "volume": "4792", "pages": "319--326"},
    ),
    "arsigny2006": (
        "inproceedings",
        "Arsigny, Vincent and Commowick, Olivier and Pennec, Xavier and Ayache, Nicholas",
        "A log-Euclidean framework for statistics on diffeomorphisms",
        _MICCAI,
        {"series": "LNCS", "volume": "4190", "pages": "924--931"},
    ),
    "kingma2015": (
        "inproceedings",
        "Kingma, Diederik P. and Ba, Jimmy",
        "Adam: a method for stochastic optimization",
        "International Conference on Learning Representations",
        {},
    ),
    "fonov2011": (
        "article",
        "Fonov, Vladimir and others",
        "Unbiased average age-appropriate atlases for pediatric studies",
        "NeuroImage",
        {"volume": "54", "number": "1", "pages": "313--327"},
    ),
    "fonov2009": (
        "article",
        "Fonov, Vladimir S. and others",
        "Unbiased nonlinear average age-appropriate brain templates from birth to adulthood",
        "NeuroImage",
        {"volume": "47", "pages": "S102"},
    ),
    "marcus2007": (
        "article",
        "Marcus, Daniel S. and others",
        "Open Access Series of Imaging Studies (OASIS): cross-sectional MRI data in young, middle aged, nondemented, "
        "and demented older adults",
        "Journal of Cognitive Neuroscience",
        {"volume": "19", "number": "9", "pages": "1498--1507"},
    ),
    "shattuck2008": (
        "article",
        "Shattuck, David W. and others",
        "Construction of a 3D probabilistic atlas of human cortical structures",
        "NeuroImage",
        {"volume": "39", "number": "3", "pages": "1064--1080"},
    ),
    "klein2009": (
        "article",
        "Klein, Arno and others",
        "Evaluation of 14 nonlinear deformation algorithms applied to human brain MRI registration",
        "NeuroImage",
        {"volume": "46", "number": "3", "pages": "786--802"},
    ),
    "holm1979": (
        "article",
        "Holm, Sture",
        "A simple sequentially rejective multiple test procedure",
        "Scandinavian Journal of Statistics",
        {"volume": "6", "number": "2", "pages": "65--70"},
    ),
    "wilcoxon1945": (
        "article",
        "Wilcoxon, Frank",
        "Individual comparisons by ranking methods",
        "Biometrics Bulletin",
        {"volume": "1", "number": "6", "pages": "80--83"},
    ),
}

KNOWN: dict[str, tuple[str, dict[str, str]]] = {
    key: (
        kind,
        {
            "author": authors,
            "title": title,
            {"article": "journal", "incollection": "booktitle", "inproceedings": "booktitle"}.get(
                kind, "howpublished"
            ): where,
            "year": key[-4:],
            **further,
        },
    )
    for key, (kind, authors, title, where, further) in _ROWS.items()
}
