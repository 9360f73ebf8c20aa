"""What to cite for a run: the works whose methods it used, as BibTeX."""

from __future__ import annotations

from collections.abc import Iterator

import xarray as xr

from saddlescope.data import is_finite
from saddlescope.init import Gaussian
from saddlescope.labels import Flips, Smoothing
from saddlescope.methods import Adam, AdamW, Method
from saddlescope.networks.model import is_model
from saddlescope.plan import Plan
from saddlescope.problem import Problem
from saddlescope.runs.run import parts
from saddlescope.schedules import Cosine

ENTRIES = {
    "saddlescope": """@software{saddlescope,
  author  = {{The saddlescope developers}},
  title   = {saddlescope},
  version = {VERSION},
  year    = {2026},
}""",
    "corlouer2026": """@misc{corlouer2026,
  author = {Corlouer, Guillaume and Semler, Avi and Strang, Alexander and Gietelink Oldenziel, Alexander},
  title  = {Stochastic Gradient Descent in the Saddle-to-Saddle Regime of Deep Linear Networks},
  year   = {2026},
  eprint = {2604.06366},
  archivePrefix = {arXiv},
}""",
    "saxe2013": """@misc{saxe2013,
  author = {Saxe, Andrew M. and McClelland, James L. and Ganguli, Surya},
  title  = {Exact solutions to the nonlinear dynamics of learning in deep linear neural networks},
  year   = {2013},
  eprint = {1312.6120},
  archivePrefix = {arXiv},
}""",
    "li2019": """@article{li2019,
  author  = {Li, Qianxiao and Tai, Cheng and E, Weinan},
  title   = {Stochastic Modified Equations and Dynamics of Stochastic Gradient Algorithms {I}:
             Mathematical Foundations},
  journal = {Journal of Machine Learning Research},
  volume  = {20},
  number  = {40},
  pages   = {1--47},
  year    = {2019},
}""",
    "ziyin2023": """@misc{ziyin2023,
  author        = {Ziyin, Liu and Li, Hongchao and Ueda, Masahito},
  title         = {Noise Balance and Stationary Distribution of Stochastic Gradient Descent},
  year          = {2023},
  eprint        = {2308.06671},
  archiveprefix = {arXiv},
}""",
    "varre2024": """@inproceedings{varre2024,
  author    = {Varre, Aditya Vardhan and Sagitova, Margarita and Flammarion, Nicolas},
  title     = {{SGD} vs {GD}: Rank Deficiency in Linear Networks},
  booktitle = {Advances in Neural Information Processing Systems},
  volume    = {37},
  pages     = {60133},
  year      = {2024},
}""",
    "polyak1964": """@article{polyak1964,
  author  = {Polyak, B. T.},
  title   = {Some methods of speeding up the convergence of iteration methods},
  journal = {USSR Computational Mathematics and Mathematical Physics},
  volume  = {4},
  number  = {5},
  pages   = {1--17},
  year    = {1964},
}""",
    "loshchilov2017": """@inproceedings{loshchilov2017,
  author    = {Loshchilov, Ilya and Hutter, Frank},
  title     = {{SGDR}: Stochastic Gradient Descent with Warm Restarts},
  booktitle = {International Conference on Learning Representations},
  year      = {2017},
  eprint    = {1608.03983},
  archivePrefix = {arXiv},
}""",
    "bartlett1933": """@article{bartlett1933,
  author  = {Bartlett, M. S.},
  title   = {On the theory of statistical regression},
  journal = {Proceedings of the Royal Society of Edinburgh},
  volume  = {53},
  pages   = {260--283},
  year    = {1933},
}""",
    "dormand1980": """@article{dormand1980,
  author  = {Dormand, J. R. and Prince, P. J.},
  title   = {A family of embedded {Runge}--{Kutta} formulae},
  journal = {Journal of Computational and Applied Mathematics},
  volume  = {6},
  number  = {1},
  pages   = {19--26},
  year    = {1980},
}""",
    "blackman2021": """@article{blackman2021,
  author  = {Blackman, David and Vigna, Sebastiano},
  title   = {Scrambled linear pseudorandom number generators},
  journal = {ACM Transactions on Mathematical Software},
  volume  = {47},
  number  = {4},
  year    = {2021},
}""",
    "kingma2015": """@inproceedings{kingma2015,
  author    = {Kingma, Diederik P. and Ba, Jimmy},
  title     = {Adam: A Method for Stochastic Optimization},
  booktitle = {International Conference on Learning Representations},
  year      = {2015},
  eprint    = {1412.6980},
  archivePrefix = {arXiv},
}""",
    "loshchilov2019": """@inproceedings{loshchilov2019,
  author    = {Loshchilov, Ilya and Hutter, Frank},
  title     = {Decoupled Weight Decay Regularization},
  booktitle = {International Conference on Learning Representations},
  year      = {2019},
  eprint    = {1711.05101},
  archivePrefix = {arXiv},
}""",
    "hoang2012": """@inproceedings{hoang2012,
  author    = {Hoang, Viet Tung and Morris, Ben and Rogaway, Phillip},
  title     = {An Enciphering Scheme Based on a Card Shuffle},
  booktitle = {Advances in Cryptology -- {CRYPTO} 2012},
  year      = {2012},
  eprint    = {1208.1176},
  archivePrefix = {arXiv},
}""",
    "damian2021": """@inproceedings{damian2021,
  author    = {Damian, Alex and Ma, Tengyu and Lee, Jason D.},
  title     = {Label Noise {SGD} Provably Prefers Flat Global Minimizers},
  booktitle = {Advances in Neural Information Processing Systems},
  volume    = {34},
  year      = {2021},
  eprint    = {2106.06530},
  archivePrefix = {arXiv},
}""",
    "szegedy2016": """@inproceedings{szegedy2016,
  author    = {Szegedy, Christian and Vanhoucke, Vincent and Ioffe, Sergey and Shlens, Jonathon and Wojna, Zbigniew},
  title     = {Rethinking the {Inception} Architecture for Computer Vision},
  booktitle = {{IEEE} Conference on Computer Vision and Pattern Recognition},
  year      = {2016},
  eprint    = {1512.00567},
  archivePrefix = {arXiv},
}""",
    "lemire2019": """@article{lemire2019,
  author  = {Lemire, Daniel},
  title   = {Fast random integer generation in an interval},
  journal = {ACM Transactions on Modeling and Computer Simulation},
  volume  = {29},
  number  = {1},
  year    = {2019},
}""",
    "box1958": """@article{box1958,
  author  = {Box, G. E. P. and Muller, Mervin E.},
  title   = {A note on the generation of random normal deviates},
  journal = {The Annals of Mathematical Statistics},
  volume  = {29},
  number  = {2},
  pages   = {610--611},
  year    = {1958},
}""",
    "marsaglia2000": """@article{marsaglia2000,
  author  = {Marsaglia, George and Tsang, Wai Wan},
  title   = {A simple method for generating gamma variables},
  journal = {ACM Transactions on Mathematical Software},
  volume  = {26},
  number  = {3},
  pages   = {363--372},
  year    = {2000},
}""",
}


def cite(run: xr.Dataset) -> str:
    """BibTeX entries of the works whose methods a run used.

    Raises ValueError for a Dataset that is not a run.

    >>> from saddlescope import GD, DeepLinear, GaussianData, Plan, Problem, init, simulate
    >>> problem = Problem(DeepLinear((1, 1, 1)), GaussianData([[1.0]]), init.Balanced(scale=0.9))
    >>> print(cite(simulate(problem, GD(lr=0.1), Plan(steps=100), engine="reference")).count("@"))
    2
    """
    entries = "\n\n".join(ENTRIES[key] for key in _keys(*parts(run)))
    return entries.replace("VERSION", str(run.attrs["inference_library_version"])) + "\n"


def _keys(problem: Problem, method: Method, plan: Plan) -> Iterator[str]:
    finite, source = is_finite(problem.data), method.source
    yield "saddlescope"
    if is_model(problem.network):
        yield from _of_model(problem, method)
        return
    yield problem.network.citation
    if finite:
        yield "varre2024"
    if source == "flow":
        yield "dormand1980"
    if source == "sgd" or method.diffusive:
        yield from ("corlouer2026", "blackman2021", "box1958")
    elif isinstance(problem.init, Gaussian) or (finite and source == "gd"):
        yield from ("blackman2021", "box1958")
    if source == "sgd":
        yield from ("lemire2019",) if finite else ("bartlett1933", "marsaglia2000")
    yield from _of_dynamics(method)


def _of_model(problem: Problem, method: Method) -> Iterator[str]:
    labels = getattr(problem.data, "labels", None)
    if isinstance(labels, Flips):
        yield "damian2021"
    if isinstance(labels, Smoothing):
        yield "szegedy2016"
    if isinstance(method, Adam):
        yield "kingma2015"
    if isinstance(method, AdamW):
        yield "loshchilov2019"
    if method.source == "sgd" and method.sampling in ("without", "shuffle"):
        yield "hoang2012"
    if method.source == "flow":
        yield "dormand1980"
    if method.source == "sgd" or method.diffusive:
        yield "corlouer2026"
    yield from _of_dynamics(method)


def _of_dynamics(method: Method) -> Iterator[str]:
    if method.diffusive:
        yield "li2019"
    if method.momentum:
        yield "polyak1964"
    if isinstance(getattr(method.schedule, "then", method.schedule), Cosine):
        yield "loshchilov2017"
